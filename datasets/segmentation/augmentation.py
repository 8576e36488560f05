"""Augmentation of an image together with its mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.resizing import stretch
from datasets.segmentation.masks import resize_mask
from datasets.types import VOID, Image, Mask

GREY = 127  # of the border around an image that got smaller


class MaskAugmentation:
    """A random scale and crop, a flip, colour jitter; the border of an image that got smaller is void.

    The image is stretched to the network's square at a scale between the smallest and the largest, as often below 1 as
    above if they are reciprocals, and a random part of the square's size is cut out of it.

    Source: Chen et al. 2017 (arXiv:1706.05587), section 4.1 (scales from 0.5 to 2, random flips).
    """

    def __init__(
        self, input_size: int, *, min_scale: float = 0.5, max_scale: float = 2.0, jitter_strength: float = 1.0
    ) -> None:
        """Configure the augmentation.

        Args:
            input_size: side of the result in pixels.
            min_scale: smallest scale.
            max_scale: largest scale.
            jitter_strength: in [0, 1], multiplies the probability of each change of the colours.
        """
        from datasets.operations import colour_jitter  # slow to import

        self._input_size = input_size
        self._log_scales = (np.log(min_scale), np.log(max_scale))
        self._jitter = colour_jitter(jitter_strength)

    def __call__(self, image: Image, truth: Mask, seed: int) -> tuple[Image, Mask]:
        """An augmented example; deterministic for a seed. A mask of one pixel is the class of the whole image."""
        rng = np.random.default_rng(seed)
        scale = float(np.exp(rng.uniform(*self._log_scales)))
        where = rng.random(2)
        place = _cut_out if scale >= 1 else _zoom_out
        image, class_ids = place(image, truth.class_ids, self._input_size, scale, where)
        if rng.random() < 0.5:
            image, class_ids = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(class_ids[:, ::-1])
        self._jitter.set_random_seed(seed)
        return self._jitter(image=image)["image"], Mask(class_ids)


def _cut_out(
    image: Image, class_ids: Image, size: int, scale: float, where: NDArray[np.float64]
) -> tuple[Image, Image]:
    """A part of the image that fills the square."""
    parts = []
    for pixels in (image, class_ids):
        height, width = (max(1, round(side / scale)) for side in pixels.shape[:2])
        top, left = round(where[0] * (pixels.shape[0] - height)), round(where[1] * (pixels.shape[1] - width))
        parts.append(pixels[top : top + height, left : left + width])
    return stretch(parts[0], size, size), resize_mask(Mask(parts[1]), (size, size)).class_ids


def _zoom_out(
    image: Image, class_ids: Image, size: int, scale: float, where: NDArray[np.float64]
) -> tuple[Image, Image]:
    """The whole image in a part of the square."""
    side = max(1, round(scale * size))
    top, left = np.round(where * (size - side)).astype(int)
    part = slice(top, top + side), slice(left, left + side)
    canvas, ids = np.full((size, size, 3), GREY, np.uint8), np.full((size, size), VOID, np.uint8)
    canvas[part], ids[part] = stretch(image, side, side), resize_mask(Mask(class_ids), (side, side)).class_ids
    return canvas, ids
