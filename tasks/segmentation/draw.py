"""Masks over their images, beside the truth, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from datasets.drawing.draw import GAP_PX, PALETTE, WHITE, add_caption, enlarge, label_size, put_label, text_px
from datasets.segmentation.coco import BACKGROUND
from datasets.segmentation.masks import palette, resize_mask
from datasets.types import VOID, Image, Mask

RGB = tuple[int, int, int]
OPACITY = 0.6  # of the classes' colours over the image
VOID_COLOUR = (0, 0, 0)


def draw_masks(image: Image, predicted: Mask, truth: Mask | None, class_names: Sequence[str]) -> Image:
    """A copy of the image in grey under its predicted classes, and one under the true ones beside it.

    Small images are enlarged. Void pixels are black, those of a class that is named background stay grey.

    Args:
        image: (H, W, 3).
        predicted: at any size.
        truth: at any size; None for no second picture.
        class_names: by class id.
    """
    canvas = enlarge(image)
    masks = [resize_mask(mask, canvas.shape[:2]) for mask in (predicted, truth) if mask is not None]
    pictures = [_overlay(canvas, mask, class_names) for mask in masks]
    if truth is not None:
        captioned = [add_caption(picture, text) for picture, text in zip(pictures, ("predicted", "truth"), strict=True)]
        gap = np.full((len(captioned[0]), GAP_PX, 3), 255, np.uint8)
        pictures = [np.concatenate([captioned[0], gap, captioned[1]], 1)]
    present = np.unique(np.concatenate([np.unique(mask.class_ids) for mask in masks])).tolist()
    colours = class_colours(class_names)
    labels = [
        (class_names[class_id].replace("_", " "), colour)
        for class_id in present
        if class_id != VOID and (colour := colours[class_id]) is not None
    ]
    return _add_legend(pictures[0], labels, text_px(canvas)) if labels else pictures[0]


def class_colours(class_names: Sequence[str]) -> list[RGB | None]:
    """RGB of each class, the same in every picture; None for one that is named background, which stays grey.

    Colours that are easily told apart are first, then Pascal VOC's.
    """
    colours = [*PALETTE, *map(tuple, palette()[len(PALETTE) :].tolist())]
    return [None if name == BACKGROUND else colours[class_id] for class_id, name in enumerate(class_names)]


def _overlay(image: Image, mask: Mask, class_names: Sequence[str]) -> Image:
    colours = np.zeros((VOID + 1, 3), np.uint8)
    is_grey = np.zeros(VOID + 1, np.bool_)
    for class_id, colour in enumerate(class_colours(class_names)):
        colours[class_id], is_grey[class_id] = colour or VOID_COLOUR, colour is None
    colours[VOID] = VOID_COLOUR
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    blended = cv2.addWeighted(colours[mask.class_ids], OPACITY, grey, 1 - OPACITY, 0)
    return np.where(is_grey[mask.class_ids, None], grey, blended).astype(np.uint8)


def _add_legend(picture: Image, labels: Sequence[tuple[str, RGB]], size_px: int) -> Image:
    """The picture with a line of labels below it, or several."""
    width = picture.shape[1]
    lines: list[list[tuple[str, RGB, int]]] = [[]]
    left = 0
    for text, colour in labels:
        label_width = label_size(text, size_px)[0]
        if left and left + label_width > width:
            lines.append([])
            left = 0
        lines[-1].append((text, colour, left))
        left += label_width + GAP_PX
    height = label_size("p", size_px)[1] + GAP_PX
    legend = np.full((len(lines) * height, width, 3), WHITE, np.uint8)
    for number, line in enumerate(lines):
        for text, colour, start in line:
            put_label(legend, text, start, number * height + GAP_PX, colour, size_px)
    return np.concatenate([picture, legend])
