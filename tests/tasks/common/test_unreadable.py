"""Broken images are limited, images with nothing in them are not, and none left is always an error."""

import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from datasets import console
from datasets.types import Unreadable
from tasks.common.evaluation.unreadable import LeftOutInTraining, UnreadableImages


def record(num_images: int, max_fraction: float, *, broken: int = 0, empty: int = 0) -> UnreadableImages:
    images = UnreadableImages(num_images, max_fraction)
    images.add([Unreadable(f"{row}.jpg: truncated") for row in range(broken)])
    images.add([Unreadable(f"{row}.jpg: no face found", is_empty=True) for row in range(empty)])
    return images


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_only_broken_images_are_limited() -> None:
    for broken in range(11):
        for empty in range(11 - broken):
            problem = record(10, 0.3, broken=broken, empty=empty).problem
            if broken > 3:
                assert problem is not None
                assert problem.startswith(f"{broken} of 10 images are unreadable, more than the fraction 0.3")
            elif broken + empty == 10:
                assert problem is not None
                unreadable = f" and {broken} unreadable" * (broken > 0)
                assert problem.startswith(
                    f"none of the 10 images is left: {empty} are empty{unreadable}; the last one: "
                )
            else:
                assert problem is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_limit_may_be_all_images_but_one() -> None:
    assert record(10, 1, broken=9).problem is None
    problem = record(10, 1, broken=10).problem
    assert problem is not None
    assert problem.startswith("none of the 10 images is left")


def test_an_image_that_comes_again_in_training_is_named_once_and_counted_apart() -> None:
    images = UnreadableImages(10, 0.5, LeftOutInTraining)
    with pytest.warns(UserWarning, match="a.jpg|b.jpg") as warned:
        images.add([Unreadable("a.jpg: truncated"), Unreadable("b.jpg: no face found", is_empty=True)] * 2)
    assert [str(line.message) for line in warned] == [
        "a.jpg: truncated; the image is left out",
        "b.jpg: no face found; the image is left out",
    ]
    assert (images.broken.num_images, images.broken.last_reason) == (1, "a.jpg: truncated")
    assert (images.empty.num_images, images.empty.last_reason) == (1, "b.jpg: no face found")


def test_memory_does_not_grow_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does Python's own list of the warnings that it has shown, or what the commands know of those printed."""
    num_printed, num_first, num_images = [0], 20_000, 20_000

    def count(text: str) -> None:
        num_printed[0] += text.startswith("warning: ")

    def unreadable(rows: range) -> Iterator[Unreadable]:
        return (Unreadable(f"{row:0100}.jpg: truncated", is_empty=row % 2 == 0) for row in rows)

    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=count))
    monkeypatch.setattr(warnings, "showwarning", console._WarningPrinter())
    images = UnreadableImages(10**6, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        tracemalloc.start()
        try:
            images.add(unreadable(range(num_first)))
            before, _ = tracemalloc.get_traced_memory()
            images.add(unreadable(range(num_first, num_first + num_images)))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert num_printed[0] == num_first + num_images
    assert images.broken.num_images == images.empty.num_images == num_printed[0] // 2
    assert after - before < num_images, "a byte for each"
