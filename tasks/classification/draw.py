"""Images with their top classes, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.drawing.draw import RIGHT, UNKNOWN, WRONG, add_caption, join_panel
from datasets.drawing.plot import new_plot
from datasets.types import Image, Label
from tasks.common.drawing.bars import Bar, draw_bars

TOP_K = 5
MAX_NAMED_CLASSES = 40
NUM_CONFUSED_PAIRS = 20


def draw_label(image: Image, predicted: Label, truth: Label | None, class_names: Sequence[str]) -> Image:
    """The image beside a bar chart of its top classes, with the true class below.

    The true class is green, the top class red if wrong; all remaining bars, and all without ground truth, are blue.
    """
    bars = []
    for rank, class_id in enumerate(rank_classes(predicted)[:TOP_K]):
        value = 1.0 if predicted.probabilities is None else float(predicted.probabilities[class_id])
        is_true = None if truth is None else class_id == truth.class_id
        colour = RIGHT if is_true else WRONG if is_true is False and rank == 0 else UNKNOWN
        bars.append(Bar(class_names[class_id].replace("_", " "), value, colour))
    picture = join_panel(image, draw_bars(bars))
    return (
        picture
        if truth is None
        else add_caption(picture, f"true class: {class_names[truth.class_id].replace('_', ' ')}")
    )


def draw_confusion(matrix: NDArray[np.int64], class_names: Sequence[str], path: Path) -> None:
    """The row-normalised confusion matrix, and the most frequently confused class pairs.

    Args:
        matrix: (K, K) counts, rows are true classes, columns predicted ones.
        class_names: by class id.
        path: output image.
    """
    with new_plot(path, 14, 8) as figure:
        axes, text = figure.subplots(1, 2, width_ratios=(2, 1))
        normalised = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
        heatmap = axes.imshow(normalised, cmap="magma_r", vmin=0, vmax=1)
        figure.colorbar(heatmap, ax=axes, label="fraction of the true class")
        axes.set(xlabel="predicted class", ylabel="true class")
        if len(class_names) <= MAX_NAMED_CLASSES:
            axes.set_xticks(range(len(class_names)), class_names, rotation=90, fontsize=7)
            axes.set_yticks(range(len(class_names)), class_names, fontsize=7)
        errors = matrix * ~np.eye(len(matrix), dtype=bool)
        most_frequent = np.argsort(-errors, axis=None, kind="stable")[:NUM_CONFUSED_PAIRS]
        pairs = [divmod(int(flat_index), len(matrix)) for flat_index in most_frequent]
        lines = [f"{errors[i, j]:>4} x {class_names[i]} -> {class_names[j]}" for i, j in pairs if errors[i, j]]
        text.axis("off")
        text.text(0, 1, "\n".join(["most often confused (true -> predicted)", "", *lines]), va="top", fontsize=8)


def rank_classes(predicted: Label) -> list[int]:
    """Class ids by descending probability; only the predicted class if there are no probabilities."""
    if predicted.probabilities is None:
        return [predicted.class_id]
    order: list[int] = np.argsort(-predicted.probabilities, kind="stable").tolist()
    return order
