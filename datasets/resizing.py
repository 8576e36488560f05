"""Resizing and cropping to a network's input."""

from __future__ import annotations

import cv2
import numpy as np
import PIL.Image
import torch
from torch.nn.functional import interpolate

from datasets.types import Image


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
