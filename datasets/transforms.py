"""Augmentation of examples; what albumentations does is in `operations.py`, imported when a training needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np

from datasets.resizing import resize
from datasets.types import Detections, Image

T = TypeVar("T")


class CropAugmentation:
    """Random resized crop, random horizontal flip, RandAugment.

    Source: Szegedy et al. 2015 (arXiv:1409.4842), section 6, for the crops; Cubuk et al. 2020 (arXiv:1909.13719).
    """

    def __init__(
        self,
        input_size: int,
        *,
        min_crop_area: float,
        randaugment_ops: int,
        may_mirror: bool = True,
        pre_crop: Callable[[Image], Image] | None = None,
    ) -> None:
        """Configure the augmentation.

        Args:
            input_size: side of the result in pixels.
            min_crop_area: smallest crop, as a fraction of the image's area.
            randaugment_ops: number of RandAugment operations.
            may_mirror: whether to flip half of the images.
            pre_crop: applied to the image first, for example a crop of a fixed region.
        """
        self._pre_crop = pre_crop
        self._may_mirror = may_mirror
        self._input_size = input_size
        self._min_area = min_crop_area
        self._operations = None
        if randaugment_ops:
            from datasets.operations import randaugment

            self._operations = randaugment(randaugment_ops)

    def __call__(self, image: Image, truth: T, seed: int) -> tuple[Image, T]:
        """An augmented image; deterministic for a seed."""
        if self._pre_crop is not None:
            image = self._pre_crop(image)
        rng = np.random.default_rng(seed)
        top, left, height, width = _random_crop(image.shape[:2], self._min_area, rng)
        result = resize(image[top : top + height, left : left + width], self._input_size)
        if self._may_mirror and rng.random() < 0.5:
            result = cv2.flip(result, 1)  # type: ignore[assignment]
        if self._operations is not None:
            self._operations.set_random_seed(seed)
            result = self._operations(image=result)["image"]
        return result, truth


def _random_crop(image_hw: tuple[int, ...], min_area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height, width of a crop with a random area and an aspect ratio between 3/4 and 4/3.

    Faster than albumentations, whose seeding takes a tenth of the time of loading an image.
    """
    height, width = image_hw
    for _ in range(10):
        area, ratio = rng.uniform(min_area, 1) * height * width, np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        crop_width, crop_height = round(float(area * ratio) ** 0.5), round(float(area / ratio) ** 0.5)
        if 0 < crop_width <= width and 0 < crop_height <= height:
            break
    else:
        crop_width = crop_height = min(height, width)
    return (
        int(rng.integers(height - crop_height + 1)),
        int(rng.integers(width - crop_width + 1)),
        crop_height,
        crop_width,
    )


class DetectionAugmentation:
    """SSD-style augmentation: crop, zoom out or neither; flip; colour jitter; resize to the input size.

    Crops are sampled by their fraction of the image's area, not by their overlap with an object as in the paper. The
    image is resized before it is zoomed out, so that large photos are not warped at full size.

    Source: Liu et al. 2016 (arXiv:1512.02325), sections 2.2 and 3.6.
    """

    def __init__(self, input_size: int, strength: float = 1.0, *, antialias: bool = True) -> None:
        """Configure the augmentation.

        Args:
            input_size: side of the result in pixels.
            strength: in [0, 1], multiplies the probability of each operation: 0 only resizes, 1 is SSD's.
            antialias: see `stretch`.
        """
        from datasets.operations import crop_or_zoom_out

        self._pipeline = crop_or_zoom_out(input_size, strength, antialias=antialias)

    def __call__(self, image: Image, truth: Detections, seed: int) -> tuple[Image, Detections]:
        """An augmented example; deterministic for a seed.

        Returns:
            The image, uint8 (input_size, input_size, 3), and its boxes. Crowd boxes are dropped, since they are not
            single objects; the loss treats their area as background.
        """
        if truth.is_crowd is not None:
            truth = truth.select(~truth.is_crowd)
        self._pipeline.set_random_seed(seed)
        result = self._pipeline(image=image, bboxes=truth.boxes_xyxy, rows=np.arange(len(truth)))
        rows = np.asarray(result["rows"], np.int64)
        boxes_xyxy = np.asarray(result["bboxes"], np.float32).reshape(-1, 4)
        augmented = result["image"]
        return augmented, Detections(boxes_xyxy, truth.class_ids[rows], augmented.shape[:2])
