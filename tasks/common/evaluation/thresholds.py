"""The table and the plot of thresholds, and the threshold that is suggested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.common.drawing.thresholds import draw_thresholds
from tasks.common.evaluation.report import write_csv
from tasks.common.thresholds import THRESHOLDS, OperatingPoint, ThresholdCounts, pool

PLOT = Path(THRESHOLDS).with_suffix(".png")


def write_table(classes: Sequence[ThresholdCounts], folder: Path) -> None:
    """Write the counts of each class, after those over all classes, to `thresholds.csv`; nothing without classes."""
    if classes:
        write_csv(folder / THRESHOLDS, [row for counts in (pool(classes), *classes) for row in counts.rows()])


def write_thresholds(classes: Sequence[ThresholdCounts], folder: Path) -> OperatingPoint | None:
    """Write the table and the plot, `thresholds.png`.

    Returns:
        The operating point with the highest F1 over all classes; None if no object is found.
    """
    if not classes:
        return None
    write_table(classes, folder)
    best = pool(classes).choose("f1")
    draw_thresholds(classes, best, folder / PLOT)
    return best
