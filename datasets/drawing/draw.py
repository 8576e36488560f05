"""Drawing helpers for images: colours, labels, captions, panels, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from datasets.types import Image

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_PX = 28  # text size at a font scale of 1
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
# Okabe and Ito's palette, which is safe for colour-blind readers.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
UNKNOWN, RIGHT, WRONG = PALETTE[1], PALETTE[2], PALETTE[5]  # colours of predictions; unknown: without truth
TEXT_FRACTION, MIN_TEXT_PX = 14 / 640, 13  # text size as a fraction of an image's longer side
MAX_TEXT_FRACTION = 1 / 14  # of its shorter side, so that a label has room in a narrow image
PADDING = 1 / 6  # around a label's text, as a fraction of its size
TITLE_SCALE = 1.25  # text size of a title, relative to a caption
MIN_SIDE_PX = 320  # smaller images are enlarged, so that labels can be read
MAX_ENLARGED_PX = 1280  # longer side of an enlarged image, since a strip would fill the memory
SHEET_PX, GAP_PX = 1440, 4
WIDE_ASPECT = 1.8  # width / height above which a contact sheet has two columns
MAX_ASPECT = 1.5  # of a photo beside a panel


def colour(class_id: int) -> tuple[int, int, int]:
    """RGB for a class, the same in every picture."""
    return PALETTE[class_id % len(PALETTE)]


def text_px(image: Image) -> int:
    """The text size for an image."""
    shorter, longer = sorted(map(int, image.shape[:2]))
    return max(MIN_TEXT_PX, round(min(TEXT_FRACTION * longer, MAX_TEXT_FRACTION * shorter)))


def label_size(text: str, size_px: int) -> tuple[int, int]:
    """Width and height of a label."""
    width, height, _ = _measure(_printable(text), size_px)
    return width, height


def put_label(
    image: Image, text: str, left_px: int, top_px: int, background: tuple[int, int, int], size_px: int = MIN_TEXT_PX
) -> None:
    """Write a short text on a filled box, shifted to lie inside the image."""
    text = _printable(text)
    width, height, below = _measure(text, size_px)
    left = max(0, min(left_px, image.shape[1] - width))
    top = max(0, min(top_px, image.shape[0] - height))
    cv2.rectangle(image, (left, top), (left + width - 1, top + height - 1), background, cv2.FILLED)
    ink = BLACK if sum(background) > 3 * 127 else WHITE
    start = (left + _padding(size_px), top + height - 1 - below)
    cv2.putText(image, text, start, FONT, size_px / FONT_PX, ink, 1, cv2.LINE_AA)


def _measure(text: str, size_px: int) -> tuple[int, int, int]:
    """Width and height of a label, and the height of what is below its baseline."""
    (width, height), baseline = cv2.getTextSize(text, FONT, size_px / FONT_PX, 1)
    padding = _padding(size_px)
    return width + 2 * padding, height + baseline + padding, baseline


def _padding(size_px: int) -> int:
    return round(PADDING * size_px)


def shorten(text: str, width_px: int, size_px: int) -> str:
    """The text, or as much of its beginning as a label of that width has room for."""
    cut = text
    while cut and label_size(cut, size_px)[0] > width_px:
        cut = f"{cut.removesuffix('…')[:-1]}…".removeprefix("…")
    return cut


def add_caption(picture: Image, text: str, *, size_px: int | None = None, is_title: bool = False) -> Image:
    """The picture with a line of text below it, or a larger one above it, on white."""
    size_px = size_px or round(text_px(picture) * (TITLE_SCALE if is_title else 1))
    text = shorten(text, picture.shape[1], size_px)
    line = np.full((label_size("p", size_px)[1], picture.shape[1], 3), 255, np.uint8)
    put_label(line, text, 0, 0, WHITE, size_px)
    return np.concatenate([line, picture] if is_title else [picture, line])


def rescale(image: Image, scale: float) -> Image:
    """The image enlarged or reduced by a factor."""
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation)  # type: ignore[return-value]


def enlarge(image: Image) -> Image:
    """A copy of the image, enlarged if it is small."""
    return rescale(image, max(1.0, min(MIN_SIDE_PX / min(image.shape[:2]), MAX_ENLARGED_PX / max(image.shape[:2]))))


def pad(picture: Image, height_px: int, width_px: int) -> Image:
    """The picture in the middle of a white one of that size."""
    top, left = (height_px - picture.shape[0]) // 2, (width_px - picture.shape[1]) // 2
    bottom, right = height_px - picture.shape[0] - top, width_px - picture.shape[1] - left
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=WHITE
    )


def join_panel(image: Image, panel: Image) -> Image:
    """A photo beside a panel, scaled to its height."""
    height = len(panel)
    photo = rescale(image, min(height / image.shape[0], MAX_ASPECT * height / image.shape[1]))
    return np.concatenate([pad(photo, height, photo.shape[1] + 2 * GAP_PX), panel], 1)


def fit_tile(picture: Image, columns: int) -> Image:
    """The picture scaled to fit its tile in a contact sheet of that many columns."""
    return rescale(picture, (SHEET_PX // columns - GAP_PX) / max(picture.shape[:2]))


def contact_sheet(pictures: Sequence[Image], columns: int | None = None) -> Image:
    """A grid of pictures, each scaled to fit its tile.

    Args:
        pictures: one or more, of any sizes.
        columns: number of columns; None for three, or two if a picture is wide.
    """
    is_wide = max(picture.shape[1] / picture.shape[0] for picture in pictures) > WIDE_ASPECT
    columns = columns or (2 if is_wide else 3)
    side = SHEET_PX // columns
    tiles = [fit_tile(picture, columns) for picture in pictures]
    columns = min(columns, len(tiles))
    tiles += [np.full((1, 1, 3), 255, np.uint8)] * (-len(tiles) % columns)
    rows = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        height = max(map(len, row)) + GAP_PX
        rows.append(np.concatenate([pad(tile, height, side) for tile in row], 1))
    return np.concatenate(rows)


def _printable(text: str) -> str:
    """OpenCV ends the process at a file name that is not UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
