"""Predicted boxes in colour with class name and score, true ones as thin white lines; precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.types import Detections, Image
from tasks.common.drawing.draw import PALETTE, colour, put_label
from tasks.common.drawing.plot import add_legend_below, new_plot

MAX_LABELLED_CURVES = 12  # more colours cannot be told apart
MIN_SIDE_PX = 320  # smaller images are enlarged, so that labels can be read


def draw_detections(image: Image, predicted: Detections, truth: Detections | None, class_names: Sequence[str]) -> Image:
    """A copy of the image with its objects; small images are enlarged.

    Args:
        image: (H, W, 3).
        predicted: drawn in its class's colour, in any frame.
        truth: drawn in white below the predictions, in any frame.
        class_names: in the order of class ids.
    """
    scale = max(1.0, MIN_SIDE_PX / min(image.shape[:2]))
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    canvas: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if truth is not None:
        for box in truth.resized((height, width)).boxes_xyxy.round().astype(int).tolist():
            cv2.rectangle(canvas, box[:2], box[2:], (0, 0, 0), 2)
            cv2.rectangle(canvas, box[:2], box[2:], (255, 255, 255), 1)
    predicted = predicted.resized((height, width))
    boxes = predicted.boxes_xyxy.round().astype(int).tolist()
    for row in reversed(range(len(predicted))):  # the highest score on top
        class_id = int(predicted.class_ids[row])
        cv2.rectangle(canvas, boxes[row][:2], boxes[row][2:], colour(class_id), 2)
    for row in reversed(range(len(predicted))):
        class_id = int(predicted.class_ids[row])
        score = "" if predicted.scores is None else f" {predicted.scores[row]:.2f}"
        put_label(canvas, f"{class_names[class_id]}{score}", boxes[row][0], boxes[row][1] - 14, colour(class_id))
    return canvas


def draw_precision_recall(
    precision: NDArray[np.float64], recalls: NDArray[np.float64], class_names: Sequence[str], path: Path
) -> None:
    """Precision-recall curve of each class, and their mean.

    Args:
        precision: (R, K), at each recall, of each class; -1 for a class without objects.
        recalls: (R,), ascending from 0 to 1.
        class_names: in the order of class ids.
        path: of the picture.
    """
    with new_plot(path, 8, 6.5) as figure:
        axes = figure.subplots()
        present = np.flatnonzero(precision[0] >= 0)
        best_first = present[np.argsort(-precision[:, present].mean(0), kind="stable")]
        for class_id in best_first.tolist():
            is_labelled = len(present) <= MAX_LABELLED_CURVES
            label = f"{class_names[class_id]} {precision[:, class_id].mean():.3f}" if is_labelled else None
            rgb = [value / 255 for value in colour(class_id)] if is_labelled else (0.8, 0.8, 0.8)
            style = "--" if is_labelled and class_id // len(PALETTE) % 2 else "-"
            width = 1.2 if is_labelled else 0.6
            axes.plot(recalls, precision[:, class_id], style, color=rgb, linewidth=width, label=label)
        if len(present):
            mean = precision[:, present].mean(1)
            axes.plot(
                recalls,
                mean,
                color="black",
                linewidth=2.5,
                label=f"mean of {len(present)} classes {mean.mean():.3f}",
            )
            add_legend_below(figure, 3, title="AP50")
        axes.set(xlabel="recall", ylabel="precision", title="at an IoU of 0.50", xlim=(0, 1), ylim=(0, 1.01))
        axes.grid(alpha=0.3)
