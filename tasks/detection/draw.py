"""The surroundings of a failure case; precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.drawing.boxes import draw_detections
from datasets.drawing.plot import add_legend_below, new_plot
from datasets.types import Detections, Image
from tasks.common.drawing.plot import class_style

CONTEXT, MIN_CROP = 3, 0.35  # of the crop around a failure: size in boxes, and as a fraction of the image


def draw_failure_case(image: Image, predicted: Detections, truth: Detections, class_names: Sequence[str]) -> Image:
    """The predicted boxes with their surroundings, in an enlarged crop of the image."""
    height, width = image.shape[:2]
    boxes = predicted.resized((height, width)).boxes_xyxy
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    size = np.array([width, height])
    crop = (size * np.clip(CONTEXT * ((high - low) / size).max(), MIN_CROP, 1)).round().clip(1).astype(int)
    left, top = np.clip((low + high - crop) / 2, 0, size - crop).astype(int).tolist()
    part = image[top : top + crop[1], left : left + crop[0]]
    shift = np.array([left, top, left, top], np.float32)
    in_part = [
        replace(objects, boxes_xyxy=objects.boxes_xyxy - shift, image_hw=part.shape[:2])
        for objects in (predicted.resized((height, width)), truth.resized((height, width)))
    ]
    return draw_detections(part, in_part[0], in_part[1], class_names)


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
            label = f"{class_names[class_id]} {precision[:, class_id].mean():.3f}"
            axes.plot(recalls, precision[:, class_id], **class_style(class_id, label, len(present)))
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
