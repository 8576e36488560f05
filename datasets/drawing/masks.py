"""Masks over their images, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from datasets.drawing.draw import GAP_PX, PALETTE, WHITE, enlarge, label_size, put_label, text_px
from datasets.segmentation.coco import BACKGROUND
from datasets.segmentation.masks import palette, resize_mask
from datasets.types import VOID, Image, Mask

RGB = tuple[int, int, int]
OPACITY = 0.6  # of the classes' colours over the image
VOID_COLOUR = (0, 0, 0)


def draw_mask(image: Image, mask: Mask, class_names: Sequence[str]) -> Image:
    """A copy of the image in grey under the colours of its classes, with a legend; small images are enlarged.

    Args:
        image: (H, W, 3).
        mask: at any size.
        class_names: by class id.
    """
    canvas = enlarge(image)
    mask = resize_mask(mask, canvas.shape[:2])
    return add_legend(overlay(canvas, mask, class_names), [mask], class_names, text_px(canvas))


def class_colours(class_names: Sequence[str]) -> list[RGB | None]:
    """RGB of each class, the same in every picture; None for one that is named background, which stays grey.

    Colours that are easily told apart are first, then Pascal VOC's.
    """
    colours = [*PALETTE, *map(tuple, palette()[len(PALETTE) :].tolist())]
    return [None if name == BACKGROUND else colours[class_id] for class_id, name in enumerate(class_names)]


def overlay(image: Image, mask: Mask, class_names: Sequence[str]) -> Image:
    """The image in grey under the colours of a mask of its size.

    Void pixels are black, those of a class that is named background stay grey.
    """
    colours = np.zeros((VOID + 1, 3), np.uint8)
    is_grey = np.zeros(VOID + 1, np.bool_)
    for class_id, colour in enumerate(class_colours(class_names)):
        colours[class_id], is_grey[class_id] = colour or VOID_COLOUR, colour is None
    colours[VOID] = VOID_COLOUR
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    blended = cv2.addWeighted(colours[mask.class_ids], OPACITY, grey, 1 - OPACITY, 0)
    return np.where(is_grey[mask.class_ids, None], grey, blended).astype(np.uint8)


def add_legend(picture: Image, masks: Sequence[Mask], class_names: Sequence[str], size_px: int) -> Image:
    """The picture with the classes of masks below it, but the background, in a line or several.

    Args:
        picture: (H, W, 3).
        masks: that it shows.
        class_names: by class id.
        size_px: height of the text.
    """
    colours = class_colours(class_names)
    present = np.unique(np.concatenate([np.unique(mask.class_ids) for mask in masks])).tolist()
    labels = [
        (class_names[class_id].replace("_", " "), colour)
        for class_id in present
        if class_id != VOID and (colour := colours[class_id]) is not None
    ]
    if not labels:
        return picture
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
