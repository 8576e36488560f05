"""A bar chart of probabilities, beside a photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from datasets.drawing.draw import WHITE, label_size, put_label, shorten
from datasets.types import Image

HEIGHT_PX, WIDTH_PX = 320, 340
MAX_NAME_PX = 190
AXIS_PX = 20  # below the bars, for the threshold
MAX_ROW_PX, MAX_BAR_PX, TEXT_PX = 64, 20, 13
LINE = (150, 150, 150)


class Bar(NamedTuple):
    """A row of the chart.

    Attributes:
        name: on the left.
        value: length and number, in [0, 1]; a bar of NaN has no length.
        colour: RGB.
    """

    name: str
    value: float
    colour: tuple[int, int, int]


def draw_bars(bars: Sequence[Bar], *, threshold: float | None = None) -> Image:
    """The bars over the whole height with their names and values; a line marks a threshold."""
    chart = np.full((HEIGHT_PX, WIDTH_PX, 3), 255, np.uint8)
    height = HEIGHT_PX - (AXIS_PX if threshold is not None else 0)
    row_px = min(MAX_ROW_PX, height / len(bars))
    bar_px = min(MAX_BAR_PX, round(0.6 * row_px))
    names = [shorten(bar.name, MAX_NAME_PX, TEXT_PX) for bar in bars]
    left = max(label_size(name, TEXT_PX)[0] for name in names) + 4
    value_width, text_height = label_size("0.00", TEXT_PX)
    length = WIDTH_PX - left - value_width - 4  # of a bar of 1
    first, last = (round((height + side * len(bars) * row_px) / 2) for side in (-1, 1))
    if threshold is not None:
        x, text = left + round(length * threshold), f"p = {threshold:g}"
        cv2.line(chart, (x, first), (x, last), LINE, 1)
        put_label(chart, text, x - label_size(text, TEXT_PX)[0] // 2, last, WHITE, TEXT_PX)
    for row, (bar, name) in enumerate(zip(bars, names, strict=True)):
        middle = round(first + (row + 0.5) * row_px)
        end = left + (round(length * bar.value) if math.isfinite(bar.value) else 0)
        top = middle - bar_px // 2
        cv2.rectangle(chart, (left, top), (end, top + bar_px), bar.colour, cv2.FILLED)
        put_label(chart, name, 0, middle - text_height // 2, WHITE, TEXT_PX)
        put_label(chart, f"{bar.value:.2f}", end + 2, middle - text_height // 2, WHITE, TEXT_PX)
    return chart
