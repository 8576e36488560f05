"""Top-1 and top-5 accuracy, scores per class, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.types import Label
from tasks.classification.draw import draw_confusion
from tasks.common.evaluation.report import PER_CLASS, write_csv
from tasks.common.inference_task import Metric

CONFUSION = "confusion.png"
UNRANKED = 1_000_000_000  # rank of the other classes if a prediction has no probabilities


class ClassificationMetric(Metric[Label]):
    """Top-1, top-5 and mean per-class accuracy, accumulated in a confusion matrix.

    top5 is NaN with five classes or fewer.

    Source: Russakovsky et al. 2015 (arXiv:1409.0575), section 4.1.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Args: class_names: by class id."""
        self._class_names = class_names
        num_classes = len(class_names)
        self._confusion = np.zeros((num_classes, num_classes), np.int64)  # (true, predicted)
        self._top5_correct = np.zeros(num_classes, np.int64)  # by true class

    def update(self, predicted: Sequence[Label], truth: Sequence[Label]) -> None:
        """Add a batch."""
        for prediction, label in zip(predicted, truth, strict=True):
            self._confusion[label.class_id, prediction.class_id] += 1
            self._top5_correct[label.class_id] += rank(prediction, label.class_id) < 5

    def merge(self, other: ClassificationMetric) -> None:
        """Add the counts of another metric."""
        self._confusion += other._confusion
        self._top5_correct += other._top5_correct

    def compute(self) -> dict[str, float]:
        """top1, top5 and mean_per_class in [0, 1]; NaN without images."""
        num_images, correct = self._confusion.sum(1), self._confusion.diagonal()
        if not num_images.any():
            return dict.fromkeys(("top1", "top5", "mean_per_class"), float("nan"))
        present = num_images > 0
        return {
            "top1": float(correct.sum() / num_images.sum()),
            "top5": float(self._top5_correct.sum() / num_images.sum()) if len(self._class_names) > 5 else float("nan"),
            "mean_per_class": float((correct[present] / num_images[present]).mean()),
        }

    def write_details(self, folder: Path) -> None:
        """Write `per_class.csv`, a row for each class with images or predictions, and `confusion.png`."""
        matrix = self._confusion
        rows = []
        for class_id in np.flatnonzero(matrix.sum(0) + matrix.sum(1)).tolist():
            num_images, num_predicted = matrix[class_id].sum(), matrix[:, class_id].sum()
            correct = matrix[class_id, class_id]
            row = {"class": self._class_names[class_id], "images": int(num_images), "predictions": int(num_predicted)}
            row["top1"] = float(correct / num_images) if num_images else ""
            row["top5"] = float(self._top5_correct[class_id] / num_images) if num_images else ""
            row["precision"] = float(correct / num_predicted) if num_predicted else ""
            errors = matrix[class_id] * (np.arange(len(matrix)) != class_id)
            row["most_confused_with"] = self._class_names[int(errors.argmax())] if errors.any() else ""
            rows.append(row)
        write_csv(folder / PER_CLASS, rows)
        draw_confusion(matrix, self._class_names, folder / CONFUSION)


def rank(predicted: Label, class_id: int) -> int:
    """How many classes are more probable; ties are broken by the lower id."""
    if predicted.probabilities is None:
        return 0 if predicted.class_id == class_id else UNRANKED
    probability = predicted.probabilities[class_id]
    return int(
        (predicted.probabilities > probability).sum() + (predicted.probabilities[:class_id] == probability).sum()
    )
