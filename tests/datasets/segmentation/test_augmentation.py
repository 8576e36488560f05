"""Augmentation moves an image and its mask together."""

import numpy as np
import pytest

from datasets.segmentation.augmentation import GREY, MaskAugmentation
from datasets.types import VOID, Image, Mask

SIZE = 64


def pattern() -> tuple[Image, Mask]:
    """An image whose red channel is 40 times the class id, in blocks."""
    ids = np.kron(np.arange(1, 5, dtype=np.uint8).reshape(2, 2), np.ones((48, 60), np.uint8))
    return np.repeat(40 * ids[..., None], 3, 2).astype(np.uint8), Mask(ids)


@pytest.mark.parametrize("scales", [(0.5, 1.0), (1.0, 2.0), (0.5, 2.0)])
def test_each_pixel_keeps_its_class(scales: tuple[float, float]) -> None:
    augment = MaskAugmentation(SIZE, min_scale=scales[0], max_scale=scales[1], jitter_strength=0.0)
    image, truth = pattern()
    seen = set()
    for seed in range(12):
        augmented, mask = augment(image, truth, seed)
        assert augmented.shape == (SIZE, SIZE, 3)
        assert mask.class_ids.shape == (SIZE, SIZE)
        expected = np.where(mask.class_ids == VOID, GREY, 40 * (mask.class_ids % VOID))
        agrees = np.abs(augmented[..., 0].astype(int) - expected) < 3
        assert agrees.mean() > 0.93  # all but the edges between blocks
        seen |= set(np.unique(mask.class_ids).tolist())
        has_border = bool((mask.class_ids == VOID).any())
        assert has_border <= (scales[0] < 1)
    assert seen >= {1, 2, 3, 4}


def test_it_is_a_function_of_the_seed_and_jitters_colours_alone() -> None:
    image, truth = pattern()
    plain, jittered = (MaskAugmentation(SIZE, jitter_strength=strength) for strength in (0.0, 1.0))
    different = 0
    for seed in range(8):
        first, again, other = jittered(image, truth, seed), jittered(image, truth, seed), plain(image, truth, seed)
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1].class_ids, again[1].class_ids)
        np.testing.assert_array_equal(first[1].class_ids, other[1].class_ids)
        different += not np.array_equal(first[0], other[0])
    assert different > 2


def test_scale_1_is_the_whole_image() -> None:
    image, truth = pattern()
    augmented, mask = MaskAugmentation(SIZE, min_scale=1.0, max_scale=1.0, jitter_strength=0.0)(image, truth, 0)
    ids = np.kron(np.arange(1, 5).reshape(2, 2), np.ones((32, 32)))
    is_mirrored = mask.class_ids[0, 0] == 2
    np.testing.assert_array_equal(mask.class_ids, ids[:, ::-1] if is_mirrored else ids)
    assert augmented[0, 0, 0] == (80 if is_mirrored else 40)
