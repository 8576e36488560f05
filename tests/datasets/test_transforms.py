"""Boxes must follow their pixels: a painted object and its box stay together through every augmentation."""

import numpy as np
import pytest

from datasets.transforms import DetectionAugmentation, resize
from datasets.types import Detections

PAINT = (250, 10, 10)


def scene(rng: np.random.Generator) -> tuple[np.ndarray, Detections]:
    """A red rectangle on dark noise."""
    image = rng.integers(0, 40, (120, 160, 3), dtype=np.uint8)
    x0, y0 = rng.integers(5, 80), rng.integers(5, 60)
    x1, y1 = x0 + rng.integers(25, 70), y0 + rng.integers(25, 55)
    image[y0:y1, x0:x1] = PAINT
    return image, Detections(np.array([[x0, y0, x1, y1]], np.float32), np.array([3]), (120, 160))


@pytest.mark.parametrize("seed", range(40))
def test_box_stays_on_its_object(seed: int) -> None:
    image, truth = scene(np.random.default_rng(seed))
    augmented, boxes = DetectionAugmentation(96)(image, truth, seed)
    assert augmented.shape == (96, 96, 3)
    assert augmented.dtype == np.uint8
    channels = augmented.astype(int)
    painted = channels.max(-1) - channels.min(-1) > 90  # the only colourful thing
    if len(boxes) == 0:
        assert painted.mean() < 0.4  # cropped away, or to a part of itself
        return
    assert boxes.class_ids.tolist() == [3]
    assert boxes.image_hw == (96, 96)
    rows, columns = np.nonzero(painted)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(boxes.boxes_xyxy[0], seen, atol=3)


def test_same_seed_same_result_and_other_seeds_other_results(rng: np.random.Generator) -> None:
    image, truth = scene(rng)
    augment = DetectionAugmentation(64)
    first, first_boxes = augment(image, truth, 5)
    augment(image, truth, 6)
    again, again_boxes = augment(image, truth, 5)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_boxes.boxes_xyxy, again_boxes.boxes_xyxy)
    variants = {augment(image, truth, seed)[0].tobytes() for seed in range(10)}
    assert len(variants) > 5


def test_crowds_are_left_out_and_images_without_objects_pass(rng: np.random.Generator) -> None:
    image, truth = scene(rng)
    crowd = Detections(truth.boxes_xyxy, truth.class_ids, truth.image_hw, is_crowd=np.array([True]))
    _, boxes = DetectionAugmentation(64)(image, crowd, 1)
    assert boxes.boxes_xyxy.shape == (0, 4)


def test_resize_averages_when_it_makes_much_smaller() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(resize(stripes, 32).astype(int) - 100).max() <= 1
