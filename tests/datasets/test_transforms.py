"""Augmentation and preprocessing: boxes follow their pixels, training and prediction see the same pixels."""

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from torchvision.transforms import v2

from datasets.pillow_resizing import center_crop
from datasets.resizing import resize, stretch
from datasets.transforms import CropAugmentation, DetectionAugmentation
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
    painted = channels.max(-1) - channels.min(-1) > 90  # everything else is grey
    if len(boxes) == 0:
        assert painted.mean() < 0.4  # the crop has at most a part of the object
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


def test_crowds_are_dropped_and_images_may_have_no_objects(rng: np.random.Generator) -> None:
    image, truth = scene(rng)
    crowd = Detections(truth.boxes_xyxy, truth.class_ids, truth.image_hw, is_crowd=np.array([True]))
    _, boxes = DetectionAugmentation(64)(image, crowd, 1)
    assert boxes.boxes_xyxy.shape == (0, 4)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A large grey photo: noise of several scales, with a standard deviation of 47."""
    rng = np.random.default_rng(0)
    texture = np.full((2400, 3200), 128.0)
    for side, deviation in [(1, 40), (4, 20), (64, 15)]:
        noise = rng.normal(0, deviation, (2400 // side + 1, 3200 // side + 1))
        texture += np.kron(noise, np.ones((side, side)))[:2400, :3200]
    return np.repeat(texture.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize("hw", [(96, 96), (100, 250), (199, 301), (1, 1), (300, 100), (96, 400)])
def test_stretch_is_pillows_bilinear_filter(hw: tuple[int, int], rng: np.random.Generator) -> None:
    """Also if only one side gets smaller, for a view of an image, and for a read-only image."""
    image = rng.integers(0, 256, (240, 350, 3), dtype=np.uint8)
    part = image[20:220, 30:332]
    expected = np.asarray(Pillow.fromarray(part).resize(hw[::-1], Pillow.Resampling.BILINEAR)).astype(int)
    np.testing.assert_allclose(stretch(part, *hw), expected, atol=1)
    image.flags.writeable = False
    np.testing.assert_array_equal(stretch(image[20:220, 30:332], *hw), stretch(part, *hw))


def test_without_antialiasing_large_images_are_stretched_by_plain_bilinear_interpolation(
    rng: np.random.Generator,
) -> None:
    """In prediction and in training, where crops, zooms and boxes are the same as with it."""
    image, truth = rng.integers(0, 256, (240, 350, 3), dtype=np.uint8), scene(rng)[1]
    plain = cv2.resize(image, (96, 96), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(image, 96, antialias=False), plain)
    assert not np.array_equal(resize(image, 96), plain)
    np.testing.assert_array_equal(DetectionAugmentation(96, 0, antialias=False)(image, truth, 1)[0], plain)
    for seed in range(30):
        (seen, boxes), (other, expected) = (
            DetectionAugmentation(96, antialias=antialias)(image, truth, seed) for antialias in (False, True)
        )
        np.testing.assert_array_equal(boxes.boxes_xyxy, expected.boxes_xyxy)
        assert seen.shape == other.shape == (96, 96, 3)


@pytest.mark.parametrize("image_hw", [(50, 70), (96, 96), (96, 30)])
def test_small_images_are_stretched_by_plain_bilinear_interpolation(
    image_hw: tuple[int, int], rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8)
    plain = cv2.resize(image, (96, 96), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(image, 96), plain)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), image_hw)
    variants = [DetectionAugmentation(96)(image, nothing, seed)[0] for seed in range(100)]
    assert any(np.array_equal(variant, plain) for variant in variants)
    if image_hw[0] == image_hw[1]:  # only a square allows a crop of the whole image
        whole = CropAugmentation(96, min_crop_area=1, randaugment_ops=0, may_mirror=False)(image, Label(0), 0)[0]
        np.testing.assert_array_equal(whole, plain)


def test_classification_trains_on_the_pixels_that_it_predicts_from(photo: np.ndarray) -> None:
    seen = CropAugmentation(224, min_crop_area=1, randaugment_ops=0)(photo, Label(0), 0)[0]
    predicted_from = center_crop(photo, 224, 1.0)
    assert 5 < seen.std() < 30  # most of the fine noise is averaged out
    assert seen.std() == pytest.approx(predicted_from.std(), rel=0.15)
    assert seen.mean() == pytest.approx(predicted_from.mean(), rel=0.15)

    square = photo[:, :2400]  # the crop is the whole image
    seen = CropAugmentation(224, min_crop_area=1, randaugment_ops=0, may_mirror=False)(square, Label(0), 0)[0]
    np.testing.assert_allclose(seen.astype(int), center_crop(square, 224, 1.0).astype(int), atol=1)


def test_detection_trains_on_the_pixels_that_it_predicts_from(photo: np.ndarray) -> None:
    """Each augmented image is Pillow's reduction of the region given by its boxes, up to brightness and contrast.

    So the two correlate; without antialiasing the correlation is about 0.5. Zoomed-out images are averaged twice.
    """
    photo = photo[:900, :1200]
    height, width = photo.shape[:2]
    x0, y0 = (grid.ravel() for grid in np.meshgrid(np.arange(0, width, 60), np.arange(0, height, 60)))
    boxes_xyxy = np.stack([x0, y0, x0 + 60, y0 + 60], -1).astype(np.float32)
    truth = Detections(boxes_xyxy, np.arange(len(boxes_xyxy)), (height, width))
    framed = Pillow.fromarray(np.pad(photo[..., 0], ((height, height), (width, width)), constant_values=127))
    predicted_from = resize(photo, 96)
    num_whole = num_zoomed_out = 0
    for seed in range(60):
        seen, found = DetectionAugmentation(96)(photo, truth, seed)
        is_inside = ((found.boxes_xyxy > 0.01) & (found.boxes_xyxy < 95.99)).all(-1)
        before, after = truth.boxes_xyxy[found.class_ids[is_inside]], found.boxes_xyxy[is_inside]
        num_whole += np.array_equal(seen, predicted_from)
        if np.corrcoef(before[:, 0], after[:, 0])[0, 1] < 0:
            seen, after = seen[:, ::-1], np.stack([96 - after[:, 2], after[:, 1], 96 - after[:, 0], after[:, 3]], -1)
        scale_x, left = np.polyfit(before[:, ::2].ravel(), after[:, ::2].ravel(), 1)
        scale_y, top = np.polyfit(before[:, 1::2].ravel(), after[:, 1::2].ravel(), 1)
        x, y = width - left / scale_x, height - top / scale_y
        part = framed.resize((96, 96), Pillow.Resampling.BILINEAR, box=(x, y, x + 96 / scale_x, y + 96 / scale_y))
        assert np.corrcoef(seen[..., 0].ravel(), np.asarray(part).ravel())[0, 1] > 0.95
        num_zoomed_out += bool(scale_x * width < 95)
    assert num_whole > 0
    assert num_zoomed_out > 0


@pytest.mark.parametrize("image_hw", [(200, 300), (300, 200), (224, 224), (30, 45)])
@pytest.mark.parametrize(("input_size", "crop_fraction"), [(112, 0.875), (224, 0.875), (64, 1.0)])
def test_center_crop_is_torchvisions(
    image_hw: tuple[int, int], input_size: int, crop_fraction: float, rng: np.random.Generator
) -> None:
    """Resize of the shorter side, then centre crop, with Pillow; at sizes without rounding."""
    image = rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8)
    pipeline = v2.Compose([v2.Resize(round(input_size / crop_fraction)), v2.CenterCrop(input_size), v2.PILToTensor()])
    expected = pipeline(Pillow.fromarray(image)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(center_crop(image, input_size, crop_fraction), expected)


def test_classification_crops_have_the_configured_area_and_aspect_ratio() -> None:
    """Pixel values are their coordinates, so the result tells the region of the crop."""
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


def plain(image: np.ndarray, truth: Detections, size: int) -> tuple[np.ndarray, np.ndarray]:
    return resize(image, size), truth.resized((size, size)).boxes_xyxy


@pytest.mark.parametrize("seed", range(20))
def test_augmentation_of_strength_0_only_resizes(rng: np.random.Generator, seed: int) -> None:
    image, truth = scene(rng)
    augmented, boxes = DetectionAugmentation(96, 0.0)(image, truth, seed)
    expected, expected_boxes = plain(image, truth, 96)
    np.testing.assert_array_equal(augmented, expected)
    np.testing.assert_allclose(boxes.boxes_xyxy, expected_boxes, atol=1e-3)


def test_strength_multiplies_the_probability_of_each_operation(rng: np.random.Generator) -> None:
    """The fraction of images left as they are is within Frechet's bounds for any dependence between the operations.

    At full strength 7 of 10 images are cropped or zoomed; half are flipped, half change brightness, and half colour.
    """
    image, truth = scene(rng)
    expected, _ = plain(image, truth, 32)
    probabilities, num_seeds, tolerance, found = np.array([0.7, 0.5, 0.5, 0.5]), 600, 0.06, [1.0]
    for strength in (0.2, 0.5, 1.0):
        augment = DetectionAugmentation(32, strength)
        found.append(np.mean([np.array_equal(augment(image, truth, s)[0], expected) for s in range(num_seeds)]))
        assert 1 - strength * probabilities.sum() - tolerance < found[-1] < 1 - strength * 0.7 + tolerance
    assert found == sorted(found, reverse=True)
