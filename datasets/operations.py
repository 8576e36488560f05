"""Operations of augmentation. The only module that uses albumentations, which is slow to import."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.resizing import stretch
from datasets.types import Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network access on import
import albumentations as A

GREY = (127, 127, 127)
# Boxes of which a crop leaves a smaller fraction are dropped. SSD keeps boxes whose centre is in the crop: a fraction
# of at least 1/2 for a box cut at one side, 1/4 for one cut at a corner.
MIN_VISIBLE_FRACTION = 0.35


def randaugment(num_ops: int) -> A.Compose:
    """So many of RandAugment's operations, each with a random magnitude up to about 9 of 10."""
    affine = {"fill": GREY, "p": 1}
    operations = [
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
    return A.Compose([A.SomeOf(operations, num_ops, p=1)])


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


def colour_jitter(strength: float) -> A.Compose:
    """SSD's changes of brightness, contrast, hue and saturation; no geometry, so that a mask stays as it is."""
    return A.Compose(_colour_operations(strength))


def _colour_operations(strength: float) -> list[A.BasicTransform]:
    return [
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.3, p=0.5 * strength),
        A.HueSaturationValue(hue_shift_limit=9, sat_shift_limit=40, val_shift_limit=0, p=0.5 * strength),
    ]


def crop_or_zoom_out(input_size: int, strength: float, *, antialias: bool) -> A.Compose:
    """SSD's augmentation of an image with boxes, see `datasets.transforms.DetectionAugmentation`."""
    resizing = (_Resize, _RandomResizedCrop, _ZoomOut) if antialias else (A.Resize, A.RandomResizedCrop, A.Affine)
    resize_to, crop_to, affine = resizing
    crop = crop_to((input_size, input_size), scale=(0.1, 1.0), ratio=(0.5, 2.0))
    zoom_out = affine(
        scale=(0.5, 1.0), translate_percent=(-0.25, 0.25), balanced_scale=False, fill=GREY, keep_ratio=True
    )
    relative = strength / (5 - 4 * strength)  # to the p of 1; a crop has the probability 3 strength / 5
    return A.Compose(
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
            *_colour_operations(strength),
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
