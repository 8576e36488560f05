"""Views: teacher and student get the same view of an image."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from datasets.loader import Key, TrainingBatches, build_batch, build_loader
from datasets.transforms import CropAugmentation
from datasets.types import Example
from distill.views import PairedView, PairedViews, UnlabelledImages, distill_targets, pixel_digest


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (160, 120))


class Copies:
    """The same image in each of eight rows."""

    warnings: list[str] = []  # noqa: RUF012

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Example[str]:
        return Example(self.image, self.truth(index), self.id(index))

    def id(self, index: int) -> str:
        return f"{index}.jpg"

    def truth(self, index: int) -> str:
        return f"truth {index}"


def views_of(image: np.ndarray, num_views: int | None, input_size: int = 48) -> PairedViews[str]:
    augment = CropAugmentation(64, min_crop_area=0.3, randaugment_ops=0)
    return PairedViews(Copies(image), augment, 0, input_size=input_size, num_views=num_views)


def view_of(views: PairedViews[str], epoch: int, row: int) -> PairedView[str]:
    view = views[Key(epoch, row)]
    assert isinstance(view, PairedView)
    return view


def test_student_and_teacher_get_the_same_view(image: np.ndarray) -> None:
    view = view_of(views_of(image, 4), 11, 3)
    assert view.image.shape == (48, 48, 3)
    assert view.teacher_image.shape == (64, 64, 3)
    smaller = PIL.Image.fromarray(view.teacher_image).resize((48, 48), PIL.Image.Resampling.BILINEAR)
    assert np.abs(view.image.astype(int) - np.asarray(smaller)).max() <= 1, "resized as for prediction"
    assert (view.row, view.truth, view.id) == (3, "truth 3", "3.jpg")
    same = view_of(views_of(image, 4, input_size=64), 11, 3)
    assert np.array_equal(same.image, same.teacher_image)
    assert np.array_equal(same.teacher_image, view.teacher_image)


def test_an_image_has_num_views_views(image: np.ndarray) -> None:
    views = [view_of(views_of(image, 4), epoch, 3) for epoch in range(40)]
    by_view = {
        view.view: {pixel_digest(other.teacher_image) for other in views if other.view == view.view} for view in views
    }
    assert sorted(by_view) == [0, 1, 2, 3]
    assert all(len(digests) == 1 for digests in by_view.values()), "a view looks the same each time"
    digests = set().union(*by_view.values())
    assert len(digests) == 4
    others = {pixel_digest(view_of(views_of(image, 4), epoch, 5).teacher_image) for epoch in range(40)}
    assert len(others) == 4
    assert not others & digests, "another image has other views"


def test_without_num_views_each_epoch_has_a_new_view(image: np.ndarray) -> None:
    views = [view_of(views_of(image, None), epoch, 3) for epoch in range(8)]
    assert {view.view for view in views} == {None}
    assert len({pixel_digest(view.teacher_image) for view in views}) == 8


def test_digest_depends_on_every_pixel(image: np.ndarray) -> None:
    changed = image.copy()
    changed[5, 5, 1] ^= 1
    assert pixel_digest(image) == pixel_digest(image.copy())
    assert pixel_digest(image) != pixel_digest(changed)


def own_targets(examples: list[Example[str]]) -> list[str]:
    return [example.truth for example in examples]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batchs_teacher_images_are_in_its_targets(image: np.ndarray, num_workers: int) -> None:
    views = views_of(image, 2)
    loader = build_loader(
        views, TrainingBatches(8, 4, seed=0), num_workers=num_workers, collate=partial(distill_targets, own=own_targets)
    )
    for batch in loader:
        assert batch.truth == []
        pairs = [view_of(views, 0, row) for row in batch.rows]
        assert torch.equal(
            batch.targets.teacher_images.permute(0, 2, 3, 1),
            torch.from_numpy(np.stack([p.teacher_image for p in pairs])),
        )
        assert torch.equal(batch.images.permute(0, 2, 3, 1), torch.from_numpy(np.stack([p.image for p in pairs])))
        assert batch.targets.keys == [(p.view, p.row, pixel_digest(p.teacher_image)) for p in pairs]
        assert batch.targets.own == [p.truth for p in pairs]


def test_targets_without_cached_views_and_without_the_tasks_own_loss(image: np.ndarray) -> None:
    batch = build_batch([views_of(image, None)[Key(0, row)] for row in range(3)], partial(distill_targets, own=None))
    assert batch.targets.teacher_images.shape == (3, 3, 64, 64)
    assert batch.targets.keys == []
    assert batch.targets.own is None
    moved = batch.to(torch.device("meta"))
    assert moved.targets.teacher_images.is_meta


def test_unlabelled_images_have_the_dummy_truth(tmp_path: Path, image: np.ndarray) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), image)
    images: UnlabelledImages[Any] = UnlabelledImages([tmp_path / "a.png", tmp_path / "b.png"], "dummy")
    assert len(images) == 2
    assert images[1].truth == images.truth(1) == "dummy"
    assert images[1].id == images.id(1) == str(tmp_path / "b.png")
    assert np.array_equal(images[1].image[..., ::-1], image)
