"""Precision, recall and F1 by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.drawing.plot import add_legend_below, new_plot
from tasks.common.drawing.plot import class_style
from tasks.common.thresholds import ALL, OperatingPoint, ThresholdCounts, pool

SCORES = {"precision": "precision", "recall": "recall", "F1": "f1"}  # titles, and the attributes of the counts


def draw_thresholds(classes: Sequence[ThresholdCounts], best: OperatingPoint | None, path: Path) -> None:
    """The scores of each class and, thick, over all classes, with the operating point of the highest F1.

    Args:
        classes: one or more, in the order of class ids.
        best: over all classes; None if no object is found.
        path: of the picture.
    """
    present = [class_id for class_id, counts in enumerate(classes) if counts.num_objects]
    everything = pool(classes)
    with new_plot(path, 12, 5) as figure:
        for axes, (title, score) in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES.items(), strict=True):
            for class_id in present if len(present) > 1 else []:
                counts = classes[class_id]
                axes.plot(counts.thresholds, getattr(counts, score), **class_style(class_id, counts.name, len(present)))
            label = ALL if len(present) > 1 else classes[present[0]].name if present else None
            axes.plot(everything.thresholds, getattr(everything, score), "k", linewidth=2.5, label=label)
            if best is not None:
                label = f"highest F1: {best.f1:.2f} at {best.threshold:.2f}"
                axes.axvline(best.threshold, color="0.4", linestyle=":", label=label)
            axes.set(title=title, xlabel="threshold", xlim=(0, 1), ylim=(0, 1.01))
            axes.grid(alpha=0.3)
        if present:
            add_legend_below(figure, 5, handles=figure.axes[0].get_legend_handles_labels()[0])
