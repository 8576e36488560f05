"""The image with its most probable classes, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.types import Image, Label
from tasks.common.drawing.draw import put_label
from tasks.common.drawing.plot import new_plot

SIDE_PX = 320  # of the drawn image's shorter side, so that labels can be read
GUESSES = 3
RIGHT, WRONG, NEUTRAL = (0, 158, 115), (213, 94, 0), (255, 255, 255)
MAX_NAMED_CLASSES = 40
NUM_PAIRS = 20


def draw_label(image: Image, predicted: Label, truth: Label | None, class_names: Sequence[str]) -> Image:
    """A copy of the image, resized, with its most probable classes; below, the true one.

    The first guess is green where it is right and red where it is wrong.
    """
    scale = SIDE_PX / min(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas: Image = cv2.resize(image, size, interpolation=interpolation)  # type: ignore[assignment]
    for number, class_id in enumerate(most_probable(predicted)[:GUESSES]):
        share = "" if predicted.probabilities is None else f" {100 * predicted.probabilities[class_id]:.0f}%"
        background = NEUTRAL
        if number == 0 and truth is not None:
            background = RIGHT if class_id == truth.class_id else WRONG
        put_label(canvas, f"{class_names[class_id]}{share}", 4, 4 + 18 * number, background)
    if truth is not None:
        put_label(canvas, f"is: {class_names[truth.class_id]}", 4, canvas.shape[0], NEUTRAL)
    return canvas


def draw_confusion(matrix: NDArray[np.int64], class_names: Sequence[str], path: Path) -> None:
    """Shares of each true class's images by predicted class, and the pairs that are confused most often.

    Args:
        matrix: (K, K) counts, true class by row, predicted class by column.
        class_names: by class id.
        path: of the picture.
    """
    with new_plot(path, 14, 8) as figure:
        axes, text = figure.subplots(1, 2, width_ratios=(2, 1))
        shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
        figure.colorbar(axes.imshow(shares, cmap="magma_r", vmin=0, vmax=1), ax=axes, label="share of the true class")
        axes.set(xlabel="predicted", ylabel="true")
        if len(class_names) <= MAX_NAMED_CLASSES:
            axes.set_xticks(range(len(class_names)), class_names, rotation=90, fontsize=7)
            axes.set_yticks(range(len(class_names)), class_names, fontsize=7)
        wrong = matrix * ~np.eye(len(matrix), dtype=bool)
        pairs = [divmod(int(place), len(matrix)) for place in np.argsort(-wrong, axis=None, kind="stable")[:NUM_PAIRS]]
        lines = [f"{wrong[i, j]:>4} x {class_names[i]} -> {class_names[j]}" for i, j in pairs if wrong[i, j]]
        text.axis("off")
        text.text(0, 1, "\n".join(["most often confused (true -> predicted)", "", *lines]), va="top", fontsize=8)


def most_probable(predicted: Label) -> list[int]:
    """Class ids, the most probable first; the predicted one alone where there are no probabilities."""
    if predicted.probabilities is None:
        return [predicted.class_id]
    order: list[int] = np.argsort(-predicted.probabilities, kind="stable").tolist()
    return order
