"""Mixed images have mixed labels in the same proportion."""

import dataclasses

import numpy as np
import pytest

from datasets.loader import Key, TrainingSet
from datasets.mixing import LabelMixing
from datasets.types import Example, Image, Label


def batch(num_images: int = 4) -> list[Example[Label]]:
    """Images filled with 40 times their class id."""
    return [Example(np.full((32, 48, 3), 40 * i, np.uint8), Label(i), str(i)) for i in range(num_images)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("alphas", [(0.4, 0), (0, 1.0), (0.2, 1.0)])
def test_mean_pixel_matches_the_mixed_label(seed: int, alphas: tuple[float, float]) -> None:
    mixed = LabelMixing(5, mixup_alpha=alphas[0], cutmix_alpha=alphas[1])(batch(), seed)
    for example in mixed:
        probabilities = example.truth.probabilities
        assert probabilities is not None
        assert probabilities.sum() == pytest.approx(1)
        assert example.truth.class_id == probabilities.argmax()
        assert example.image.mean() == pytest.approx(float((probabilities * 40 * np.arange(5)).sum()), abs=1)
        assert example.image.dtype == np.uint8


def test_cutmix_only_copies_and_mixup_blends() -> None:
    seen = [np.unique(example.image) for example in LabelMixing(4, mixup_alpha=0, cutmix_alpha=1.0)(batch(), 1)]
    assert all(set(values.tolist()) <= {0, 40, 80, 120} for values in seen)
    seen = [np.unique(example.image) for example in LabelMixing(4, mixup_alpha=1.0, cutmix_alpha=0)(batch(), 1)]
    assert all(len(values) == 1 for values in seen)


class Colours:
    warnings: list[str] = []  # noqa: RUF012

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Example[Label]:
        return batch()[index]

    def id(self, index: int) -> str:
        return str(index)

    def truth(self, index: int) -> Label:
        return Label(index)


def test_mixing_is_a_function_of_seed_and_epoch() -> None:
    def plain(image: Image, truth: Label, _seed: int) -> tuple[Image, Label]:
        return image, truth

    dataset = TrainingSet(Colours(), plain, seed=3, mixing=LabelMixing(4, mixup_alpha=1.0, cutmix_alpha=0))

    def images(epoch: int) -> np.ndarray:
        keys = [Key(epoch, row) for row in range(4)]
        return np.stack([example.image for example in dataset.__getitems__(keys) if isinstance(example, Example)])

    np.testing.assert_array_equal(images(1), images(1))
    assert (images(1) != images(2)).any()


def test_mixing_keeps_id_row_and_seed() -> None:
    examples = [dataclasses.replace(example, row=7 + i, seed=i) for i, example in enumerate(batch())]
    mixed = LabelMixing(5, mixup_alpha=0.2, cutmix_alpha=1.0)(examples, 1)
    assert [(e.id, e.row, e.seed) for e in mixed] == [(e.id, e.row, e.seed) for e in examples]
