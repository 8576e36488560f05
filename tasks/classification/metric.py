"""Top-1 and top-5 accuracy, and where the mistakes are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.types import Label
from tasks.classification.draw import draw_confusion
from tasks.common.evaluation.report import PER_CLASS, write_csv
from tasks.common.task import Metric

CONFUSION = "confusion.png"
NOT_GUESSED = 1_000_000_000  # the rank of all others, where a prediction names one class alone


class ClassificationMetric(Metric[Label]):
    """Top-1, top-5, and the mean of the classes' own top-1, from a matrix of counts, however many images there are.

    top5 is NaN where there are not more than five classes.

    Source: Russakovsky et al. 2015 (arXiv:1409.0575), section 4.1.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Args: class_names: by class id."""
        self._class_names = class_names
        num_classes = len(class_names)
        self._confusion = np.zeros((num_classes, num_classes), np.int64)  # images of a class (row) taken for another
        self._in_five = np.zeros(num_classes, np.int64)  # of each class: it was among the five most probable

    def update(self, predicted: Sequence[Label], truth: Sequence[Label]) -> None:
        """Take in some images."""
        for guess, true in zip(predicted, truth, strict=True):
            self._confusion[true.class_id, guess.class_id] += 1
            self._in_five[true.class_id] += rank(guess, true.class_id) < 5

    def merge(self, other: ClassificationMetric) -> None:
        """Take in another one's images."""
        self._confusion += other._confusion
        self._in_five += other._in_five

    def compute(self) -> dict[str, float]:
        """top1, top5, mean_per_class in [0, 1]; NaN where nothing was taken in."""
        images, right = self._confusion.sum(1), self._confusion.diagonal()
        if not images.any():
            return dict.fromkeys(("top1", "top5", "mean_per_class"), float("nan"))
        there = images > 0
        return {
            "top1": float(right.sum() / images.sum()),
            "top5": float(self._in_five.sum() / images.sum()) if len(self._class_names) > 5 else float("nan"),
            "mean_per_class": float((right[there] / images[there]).mean()),
        }

    def write_details(self, folder: Path) -> None:
        """A row for each class with images or guesses: `per_class.csv`; who is taken for whom: `confusion.png`."""
        matrix = self._confusion
        rows = []
        for class_id in np.flatnonzero(matrix.sum(0) + matrix.sum(1)).tolist():
            images, guesses, right = matrix[class_id].sum(), matrix[:, class_id].sum(), matrix[class_id, class_id]
            row = {"class": self._class_names[class_id], "images": int(images), "guesses": int(guesses)}
            row["top1"] = float(right / images) if images else ""
            row["top5"] = float(self._in_five[class_id] / images) if images else ""
            row["precision"] = float(right / guesses) if guesses else ""
            others = matrix[class_id] * (np.arange(len(matrix)) != class_id)
            row["mostly_taken_for"] = self._class_names[int(others.argmax())] if others.any() else ""
            rows.append(row)
        write_csv(folder / PER_CLASS, rows)
        draw_confusion(matrix, self._class_names, folder / CONFUSION)


def rank(predicted: Label, class_id: int) -> int:
    """How many classes are thought more probable; of equals, those with a lower id."""
    if predicted.probabilities is None:
        return 0 if predicted.class_id == class_id else NOT_GUESSED
    own = predicted.probabilities[class_id]
    return int((predicted.probabilities > own).sum() + (predicted.probabilities[:class_id] == own).sum())
