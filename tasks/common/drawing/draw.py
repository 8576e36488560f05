"""Drawing helpers for images: colours, labels, resizing, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from datasets.types import Image

FONT = cv2.FONT_HERSHEY_SIMPLEX
# Okabe and Ito's palette, which is safe for colour-blind readers.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
TILE_PX, GAP_PX = 320, 4


def colour(class_id: int) -> tuple[int, int, int]:
    """RGB for a class, the same in every picture."""
    return PALETTE[class_id % len(PALETTE)]


def put_label(image: Image, text: str, left_px: int, top_px: int, background: tuple[int, int, int]) -> None:
    """Write a short text on a filled box, shifted to lie inside the image."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # OpenCV aborts the process on text that is not UTF-8
    (width, height), baseline = cv2.getTextSize(text, FONT, 0.4, 1)
    left = max(0, min(left_px, image.shape[1] - width - 4))
    top = max(0, min(top_px, image.shape[0] - height - baseline - 4))
    cv2.rectangle(image, (left, top), (left + width + 4, top + height + baseline + 2), background, cv2.FILLED)
    ink = (0, 0, 0) if sum(background) > 3 * 127 else (255, 255, 255)
    cv2.putText(image, text, (left + 2, top + height + 1), FONT, 0.4, ink, 1, cv2.LINE_AA)


def resize_to_height(image: Image, height_px: int) -> Image:
    """Resize to a height, with the same aspect ratio."""
    return _resize(image, height_px / image.shape[0])


def contact_sheet(pictures: Sequence[Image], columns: int | None = None) -> Image:
    """A grid of pictures, each scaled to fit its tile.

    Args:
        pictures: of any sizes.
        columns: of the grid; by default 4, or 2 if a picture is more than twice as wide as high.
    """
    is_wide = max(picture.shape[1] / picture.shape[0] for picture in pictures) > 2
    columns, side = columns or (2 if is_wide else 4), TILE_PX * (2 if is_wide else 1)
    rows = []
    for start in range(0, len(pictures), columns):
        row_pictures = pictures[start : start + columns]
        tiles = [_resize(picture, (side - GAP_PX) / max(picture.shape[:2])) for picture in row_pictures]
        row = np.full((max(len(tile) for tile in tiles), min(columns, len(pictures)) * side, 3), 255, np.uint8)
        for column, tile in enumerate(tiles):
            left = column * side + (side - tile.shape[1]) // 2
            row[: len(tile), left : left + tile.shape[1]] = tile
        rows.append(cv2.copyMakeBorder(row, 0, GAP_PX, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    return np.concatenate(rows)


def _resize(image: Image, scale: float) -> Image:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation)  # type: ignore[return-value]
