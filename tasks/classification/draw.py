"""Images with their top classes, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.types import Image, Label
from tasks.common.drawing.draw import put_label
from tasks.common.drawing.plot import new_plot

SIDE_PX = 320  # shorter side of the drawn image, so that labels are legible
TOP_K = 3
RIGHT, WRONG, NEUTRAL = (0, 158, 115), (213, 94, 0), (255, 255, 255)
MAX_NAMED_CLASSES = 40
NUM_CONFUSED_PAIRS = 20


def draw_label(image: Image, predicted: Label, truth: Label | None, class_names: Sequence[str]) -> Image:
    """A resized copy of the image with its top classes, and the true class at the bottom.

    The top class is green if correct and red if wrong.
    """
    scale = SIDE_PX / min(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas: Image = cv2.resize(image, size, interpolation=interpolation)  # type: ignore[assignment]
    for row, class_id in enumerate(rank_classes(predicted)[:TOP_K]):
        percentage = "" if predicted.probabilities is None else f" {100 * predicted.probabilities[class_id]:.0f}%"
        background = NEUTRAL
        if row == 0 and truth is not None:
            background = RIGHT if class_id == truth.class_id else WRONG
        put_label(canvas, f"{class_names[class_id]}{percentage}", 4, 4 + 18 * row, background)
    if truth is not None:
        put_label(canvas, f"is: {class_names[truth.class_id]}", 4, canvas.shape[0], NEUTRAL)
    return canvas


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
