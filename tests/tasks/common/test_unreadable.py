"""Broken images are limited, images with nothing in them are not, and none left is always an error."""

import pytest

from datasets.types import Unreadable
from tasks.common.evaluation.unreadable import UnreadableImages


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


def test_each_image_is_named_once_and_counted_apart() -> None:
    images = UnreadableImages(10, 0.5)
    with pytest.warns(UserWarning, match="a.jpg|b.jpg") as warned:
        images.add([Unreadable("a.jpg: truncated"), Unreadable("b.jpg: no face found", is_empty=True)] * 2)
    assert [str(line.message) for line in warned] == [
        "a.jpg: truncated; the image is left out",
        "b.jpg: no face found; the image is left out",
    ]
    assert list(images.reasons) == ["a.jpg: truncated"]
    assert list(images.empty) == ["b.jpg: no face found"]
