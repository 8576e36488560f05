"""Preprocessing and augmentation. The only module that uses albumentations."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from datasets.types import Detections, Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network access on import
import albumentations as A

T = TypeVar("T")
GREY = (127, 127, 127)
# Boxes of which a crop leaves a smaller fraction are dropped. SSD keeps boxes whose centre is in the crop: a fraction
# of at least 1/2 for a box cut at one side, 1/4 for one cut at a corner.
MIN_VISIBLE_FRACTION = 0.35


def stretch(image: Image, height: int, width: int, *, antialias: bool = True) -> Image:
    """Resize with bilinear interpolation, by default antialiased along a side that gets smaller.

    Training and prediction use the same function, so that they see the same textures of large photos. Antialiased
    reductions equal Pillow's bilinear filter to within one level, and are several times as fast.
    """
    if not antialias or (height >= image.shape[0] and width >= image.shape[1]):
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
    batch = torch.from_numpy(np.require(image, requirements=["C", "W"]))[None]
    # The batch axis first, so that torch recognises the view as channels last, which is twice as fast.
    result = interpolate(batch.permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=True)
    return result[0].permute(1, 2, 0).contiguous().numpy()


def resize(image: Image, input_size: int, *, antialias: bool = True) -> Image:
    """Stretch to a square of `input_size` pixels, as in SSD."""
    return stretch(image, input_size, input_size, antialias=antialias)


def center_crop(image: Image, input_size: int, crop_fraction: float) -> Image:
    """Centre crop: resize the shorter side to round(input_size / crop_fraction), then crop a square of input_size.

    Uses Pillow's antialiased bilinear filter, with which ImageNet accuracies are published; others change them by a
    point or two.
    """
    side = round(input_size / crop_fraction)
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    resized = PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR)
    left, top = (size[0] - input_size) // 2, (size[1] - input_size) // 2
    return np.asarray(resized.crop((left, top, left + input_size, top + input_size)))


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
        self._operations = A.Compose([A.SomeOf(_randaugment(), randaugment_ops, p=1)]) if randaugment_ops else None

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


def _randaugment() -> list[A.BasicTransform]:
    """RandAugment's operations, each with a random magnitude up to about 9 of 10."""
    affine = {"fill": GREY, "p": 1}
    return [
        A.NoOp(p=1),
        A.AutoContrast(p=1),
        A.Equalize(p=1),
        A.Solarize(threshold_range=(0.4, 1), p=1),
        A.Posterize(num_bits=(4, 8), p=1),
        A.ColorJitter(brightness=0, contrast=0, saturation=(0.1, 1.9), hue=0, p=1),
        A.RandomBrightnessContrast(brightness_limit=0.45, contrast_limit=0, p=1),
        A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.9, p=1),
        A.Sharpen(alpha=(0, 0.9), p=1),
        A.Affine(rotate=(-27, 27), **affine),
        A.Affine(shear={"x": (-15, 15)}, **affine),
        A.Affine(shear={"y": (-15, 15)}, **affine),
        A.Affine(translate_percent={"x": (-0.3, 0.3)}, **affine),
        A.Affine(translate_percent={"y": (-0.3, 0.3)}, **affine),
    ]


class _Resize(A.Resize):  # type: ignore[misc]
    """A.Resize with the interpolation of `stretch`."""

    def apply(self, img: Image, **params: Any) -> Image:
        """Resize the image."""
        return stretch(img, self.height, self.width)


class _RandomResizedCrop(A.RandomResizedCrop):  # type: ignore[misc]
    """A.RandomResizedCrop with the interpolation of `stretch`."""

    def apply(self, img: Image, crop_coords: tuple[int, int, int, int], **params: Any) -> Image:
        """Crop and resize the image."""
        left, top, right, bottom = crop_coords
        return stretch(img[top:bottom, left:right], *self.size)


class _ZoomOut(A.Affine):  # type: ignore[misc]
    """A.Affine with scale and translation only, with the interpolation of `stretch`."""

    def apply(self, img: Image, bbox_matrix: NDArray[np.float64], **params: Any) -> Image:
        """Reduce the image with `stretch`, then translate it, with subpixel precision."""
        height, width = img.shape[:2]
        scale, shift = np.diag(bbox_matrix)[:2], bbox_matrix[:2, 2]
        small = stretch(img, round(height * scale[1]), round(width * scale[0]))
        residual = scale * (width, height) / small.shape[1::-1]  # about 1, from rounding the size
        # Box coordinates start at the corner of pixel (0, 0), those of warpAffine at its centre.
        matrix = np.column_stack([np.diag(residual), shift + (residual - 1) / 2])
        return cv2.warpAffine(small, matrix, (width, height), borderValue=self.fill)  # type: ignore[return-value]


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
        resizing = (_Resize, _RandomResizedCrop, _ZoomOut) if antialias else (A.Resize, A.RandomResizedCrop, A.Affine)
        resize_to, crop_to, affine = resizing
        crop = crop_to((input_size, input_size), scale=(0.1, 1.0), ratio=(0.5, 2.0))
        zoom_out = affine(
            scale=(0.5, 1.0), translate_percent=(-0.25, 0.25), balanced_scale=False, fill=GREY, keep_ratio=True
        )
        relative = strength / (5 - 4 * strength)  # to the p of 1; a crop has the probability 3 strength / 5
        self._pipeline = A.Compose(
            [
                A.OneOf(
                    [
                        resize_to(input_size, input_size, p=1),
                        A.Compose([crop], p=3 * relative),
                        A.Compose([resize_to(input_size, input_size), zoom_out], p=relative),
                    ],
                    p=1,
                ),
                A.HorizontalFlip(p=0.5 * strength),
                A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.3, p=0.5 * strength),
                A.HueSaturationValue(hue_shift_limit=9, sat_shift_limit=40, val_shift_limit=0, p=0.5 * strength),
            ],
            bbox_params=A.BboxParams(
                format="pascal_voc",
                label_fields=["rows"],
                min_visibility=MIN_VISIBLE_FRACTION,
                min_width=2,
                min_height=2,
                clip=True,
            ),
        )

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
