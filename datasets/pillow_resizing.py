"""Resizing by Pillow, which an exported network has without torch."""

from __future__ import annotations

import cv2
import numpy as np
import PIL.Image

from datasets.types import Image


def resize_by_pillow(image: Image, input_size: int, *, antialias: bool = True) -> Image:
    """Stretch to a square of `input_size` pixels as `datasets.resizing.resize` does, to within one level."""
    size = (input_size, input_size)
    if not antialias or max(image.shape[:2]) <= input_size:
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
    return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR))


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
