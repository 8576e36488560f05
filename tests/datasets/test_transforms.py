"""Boxes must follow their pixels: a painted object and its box stay together through every augmentation."""

import numpy as np
import pytest
from PIL import Image as Pillow
from torchvision.transforms import v2

from datasets.transforms import CropAugmentation, DetectionAugmentation, center_crop, resize
from datasets.types import Detections, Label

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


@pytest.mark.parametrize("image_hw", [(200, 300), (300, 200), (224, 224), (30, 45)])
@pytest.mark.parametrize(("input_size", "crop_share"), [(112, 0.875), (224, 0.875), (64, 1.0)])
def test_center_crop_is_torchvisions(
    image_hw: tuple[int, int], input_size: int, crop_share: float, rng: np.random.Generator
) -> None:
    """Resize of the shorter side, then the centre, by Pillow; at sizes where nothing has to be rounded."""
    image = rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8)
    pipeline = v2.Compose([v2.Resize(round(input_size / crop_share)), v2.CenterCrop(input_size), v2.PILToTensor()])
    theirs = pipeline(Pillow.fromarray(image)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(center_crop(image, input_size, crop_share), theirs)


def test_classification_crops_keep_to_their_area_and_shape() -> None:
    """Each pixel knows its place, so a result tells which part of the image it shows."""
    rows, columns = np.mgrid[0:200, 0:250]
    image = np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8)
    augmentation = CropAugmentation(32, min_crop_area=0.3, randaugment_ops=0)
    areas, mirrored = [], 0
    for seed in range(200):
        result, truth = augmentation(image, Label(3), seed)
        assert result.shape == (32, 32, 3)
        assert truth.class_id == 3
        channels = result.astype(float)
        height = (channels[-1, :, 0] - channels[0, :, 0]).mean() * 32 / 31
        width = (channels[:, -1, 1] - channels[:, 0, 1]).mean() * 32 / 31
        mirrored += width < 0
        areas.append(height * abs(width) / (200 * 250))
        assert 0.7 < abs(width) / height < 1.45
    assert 0.28 < min(areas) < 0.4
    assert 0.75 < max(areas) <= 1.02
    assert 70 < mirrored < 130


def test_classification_augmentation_is_a_function_of_its_seed(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
    augmentation = CropAugmentation(48, min_crop_area=0.2, randaugment_ops=2)
    first, again, other = (augmentation(image, Label(0), seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    fresh = CropAugmentation(48, min_crop_area=0.2, randaugment_ops=2)
    np.testing.assert_array_equal(fresh(image, Label(0), 5)[0], first)


def test_every_operation_of_randaugment_runs(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    many = CropAugmentation(64, min_crop_area=1.0, randaugment_ops=14)
    result, _ = many(image, Label(0), 1)
    assert result.shape == (64, 64, 3)
    assert result.dtype == np.uint8
