"""Images with a bar for each attribute, and the chart of average precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.drawing.draw import RIGHT, UNKNOWN, WRONG, add_caption, join_panel
from datasets.drawing.plot import add_legend_below, new_plot
from datasets.types import Attributes, Image
from tasks.common.drawing.bars import Bar, draw_bars

MAX_BARS = 16


def draw_attributes(
    image: Image, predicted: Attributes, truth: Attributes | None, names: Sequence[str], threshold: float
) -> Image:
    """The image beside a bar chart of the attributes' probabilities.

    Bars are green if the prediction is correct, red if wrong, blue without ground truth; a star marks the attributes
    that are present. If not all attributes fit, the most probable ones are drawn.
    """
    bars = []
    for column in np.sort(np.argsort(-predicted.values, kind="stable")[:MAX_BARS]).tolist():
        value = float(predicted.values[column])
        is_true = None if truth is None or np.isnan(truth.values[column]) else bool(truth.values[column] > 0.5)
        colour = UNKNOWN if is_true is None else RIGHT if is_true == (value >= threshold) else WRONG
        bars.append(Bar(f"{'* ' if is_true else ''}{names[column].replace('_', ' ')}", value, colour))
    picture = join_panel(image, draw_bars(bars, threshold=threshold))
    return picture if truth is None else add_caption(picture, "* present   green: right   red: wrong")


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
        axes.set_yticks(rows, [name.replace("_", " ") for name, _ in ordered])
        axes.set(xlim=(0, 1.08), title=f"mean {np.mean([ap for _, (ap, _) in ordered]):.3f}" if ordered else "")
        axes.set(xlabel="average precision", ylabel="attribute")
        add_legend_below(figure, 2)
        axes.grid(alpha=0.3, axis="x")
