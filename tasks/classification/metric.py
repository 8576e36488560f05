"""Top-1 and top-5 accuracy, and where the mistakes are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from datasets.types import Label
from tasks.classification.draw import draw_confusion
from tasks.common.report import PER_CLASS, write_csv

CONFUSION = "confusion.png"
NOT_GUESSED = 1_000_000_000  # the rank of all others, where a prediction names one class alone


class ClassificationMetric:
    """Top-1, top-5, and the mean of the classes' own top-1.

    top5 is NaN where there are not more than five classes.

    Source: Russakovsky et al. 2015 (arXiv:1409.0575), section 4.1.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Args: class_names: by class id."""
        self._class_names = class_names
        self._true: list[int] = []
        self._predicted: list[int] = []
        self._ranks: list[int] = []  # how many classes were thought more probable than the true one

    def update(self, predicted: Sequence[Label], truth: Sequence[Label]) -> None:
        """Take in some images."""
        for guess, true in zip(predicted, truth, strict=True):
            self._true.append(true.class_id)
            self._predicted.append(guess.class_id)
            self._ranks.append(rank(guess, true.class_id))

    def compute(self) -> dict[str, float]:
        """top1, top5, mean_per_class in [0, 1]; NaN where nothing was taken in."""
        if not self._true:
            return dict.fromkeys(("top1", "top5", "mean_per_class"), float("nan"))
        ranks = np.array(self._ranks)
        right, true = ranks == 0, np.array(self._true)
        return {
            "top1": float(right.mean()),
            "top5": float((ranks < 5).mean()) if len(self._class_names) > 5 else float("nan"),
            "mean_per_class": float(np.mean([right[true == class_id].mean() for class_id in np.unique(true)])),
        }

    def write_details(self, folder: Path) -> None:
        """A row for each class with images or guesses: `per_class.csv`; who is taken for whom: `confusion.png`."""
        matrix = confusion_matrix(self._true, self._predicted, labels=range(len(self._class_names)))
        ranks, true = np.array(self._ranks), np.array(self._true)
        rows = []
        for class_id in np.flatnonzero(matrix.sum(0) + matrix.sum(1)).tolist():
            images, guesses, right = matrix[class_id].sum(), matrix[:, class_id].sum(), matrix[class_id, class_id]
            row = {"class": self._class_names[class_id], "images": int(images), "guesses": int(guesses)}
            row["top1"] = float(right / images) if images else ""
            row["top5"] = float((ranks[true == class_id] < 5).mean()) if images else ""
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
