"""Images with a bar for each attribute, and the chart of average precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.types import Attributes, Image
from tasks.common.drawing.draw import FONT, resize_to_height
from tasks.common.drawing.plot import add_legend_below, new_plot

HEIGHT_PX, BARS_WIDTH_PX, ROW_PX = 320, 340, 20
NAME_WIDTH_PX = 150
MAX_BARS = HEIGHT_PX // ROW_PX
RIGHT, WRONG, UNKNOWN, INK = (0, 158, 115), (213, 94, 0), (86, 180, 233), (0, 0, 0)


def draw_attributes(image: Image, predicted: Attributes, truth: Attributes | None, names: Sequence[str]) -> Image:
    """The image beside a bar chart of the attributes' probabilities; the line marks 1/2.

    Bars are green if the prediction is correct, red if wrong, blue without ground truth; a star marks the attributes
    that are present. If not all attributes fit, the most probable ones are drawn.
    """
    photo = resize_to_height(image, HEIGHT_PX)
    bars = np.full((HEIGHT_PX, BARS_WIDTH_PX, 3), 255, np.uint8)
    shown = np.sort(np.argsort(-predicted.values, kind="stable")[:MAX_BARS])
    max_length = BARS_WIDTH_PX - NAME_WIDTH_PX - 4
    for row, column in enumerate(shown.tolist()):
        value, top = float(predicted.values[column]), row * ROW_PX
        is_true = None if truth is None else bool(truth.values[column] > 0.5)
        colour = UNKNOWN if is_true is None else RIGHT if is_true == (value > 0.5) else WRONG
        end = NAME_WIDTH_PX + round(max_length * value)
        cv2.rectangle(bars, (NAME_WIDTH_PX, top + 4), (end, top + ROW_PX - 4), colour, cv2.FILLED)
        text = f"{'* ' if is_true else ''}{names[column]}"
        cv2.putText(bars, text, (4, top + 14), FONT, 0.38, INK, 1, cv2.LINE_AA)
    middle = NAME_WIDTH_PX + max_length // 2
    cv2.line(bars, (middle, 0), (middle, len(shown) * ROW_PX), (150, 150, 150), 1)
    return np.concatenate([photo, bars], 1)


def draw_average_precisions(scores: Mapping[str, tuple[float, float]], path: Path) -> None:
    """A bar chart of the attributes by descending average precision, with chance level marked.

    Args:
        scores: attribute -> average precision, prevalence.
        path: output image.
    """
    ordered = sorted(scores.items(), key=lambda item: item[1][0])
    with new_plot(path, 8, 1.5 + 0.25 * len(ordered)) as figure:
        axes = figure.subplots()
        rows = range(len(ordered))
        axes.barh(rows, [ap for _, (ap, _) in ordered], color="#56b4e9", label="average precision")
        axes.plot([prevalence for _, (_, prevalence) in ordered], rows, "k|", markersize=10, label="chance: prevalence")
        for row, (_, (ap, _)) in enumerate(ordered):
            axes.text(ap + 0.005, row, f"{ap:.3f}", va="center", fontsize=8)
        axes.set_yticks(rows, [name for name, _ in ordered])
        axes.set(xlim=(0, 1.08), title=f"mean {np.mean([ap for _, (ap, _) in ordered]):.3f}" if ordered else "")
        axes.set(xlabel="average precision", ylabel="attribute")
        add_legend_below(figure, 2)
        axes.grid(alpha=0.3, axis="x")
