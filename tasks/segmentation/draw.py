"""Predicted classes over their image, beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.drawing.draw import GAP_PX, WHITE, add_caption, enlarge, text_px
from datasets.drawing.masks import add_legend, draw_mask, overlay
from datasets.segmentation.masks import resize_mask
from datasets.types import Image, Mask


def draw_masks(image: Image, predicted: Mask, truth: Mask | None, class_names: Sequence[str]) -> Image:
    """A copy of the image in grey under its predicted classes, and one under the true ones beside it.

    Small images are enlarged.

    Args:
        image: (H, W, 3).
        predicted: at any size.
        truth: at any size; None for no second picture.
        class_names: by class id.
    """
    if truth is None:
        return draw_mask(image, predicted, class_names)
    canvas = enlarge(image)
    masks = [resize_mask(mask, canvas.shape[:2]) for mask in (predicted, truth)]
    left, right = (
        add_caption(overlay(canvas, mask, class_names), text)
        for mask, text in zip(masks, ("predicted", "truth"), strict=True)
    )
    gap = np.full((len(left), GAP_PX, 3), WHITE, np.uint8)
    return add_legend(np.concatenate([left, gap, right], 1), masks, class_names, text_px(canvas))
