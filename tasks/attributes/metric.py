"""Average precision and accuracy of each attribute, with chance levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.types import Attributes
from tasks.attributes.draw import draw_average_precisions
from tasks.common.evaluation.report import write_csv
from tasks.common.task import Metric
from tasks.common.thresholds import ThresholdCounts, count_at_thresholds

PER_ATTRIBUTE, PICTURE = "per_attribute.csv", "average_precision.png"


class AttributeScore(NamedTuple):
    """Scores of one attribute; ap is NaN if all images or none have it."""

    attribute: str
    positives: int
    prevalence: float
    ap: float
    accuracy: float


class AttributesMetric(Metric[Attributes]):
    """Mean average precision, and accuracy at a threshold.

    chance_mean_ap is the expected score of a random ranking, the mean prevalence; constant_accuracy that of always
    predicting the majority class. Attributes that all images have, or none, are left out.

    Source: Howard et al. 2017, Table 12, for the mean average precision.
    """

    def __init__(self, attribute_names: Sequence[str], threshold: float = 0.5) -> None:
        """Args: attribute_names: by column, K; threshold: lowest probability of an attribute taken for present."""
        self._names, self._threshold = attribute_names, threshold
        self._predicted: list[NDArray[np.float32]] = []  # (N, K) of each batch
        self._truth: list[NDArray[np.bool_]] = []

    def update(self, predicted: Sequence[Attributes], truth: Sequence[Attributes]) -> None:
        """Add a batch."""
        self._predicted.append(np.stack([attributes.values for attributes in predicted]))
        self._truth.append(np.stack([attributes.values for attributes in truth]) > 0.5)

    def merge(self, other: AttributesMetric) -> None:
        """Append the images of another metric."""
        self._predicted += other._predicted
        self._truth += other._truth

    def compute(self) -> dict[str, float]:
        """mean_ap, chance_mean_ap, accuracy, constant_accuracy in [0, 1]; NaN if no attribute can be scored."""
        scores = [score for score in self._scores() if not np.isnan(score.ap)]
        if not scores:
            return dict.fromkeys(("mean_ap", "chance_mean_ap", "accuracy", "constant_accuracy"), float("nan"))
        return {
            "mean_ap": float(np.mean([score.ap for score in scores])),
            "chance_mean_ap": float(np.mean([score.prevalence for score in scores])),
            "accuracy": float(np.mean([score.accuracy for score in scores])),
            "constant_accuracy": float(np.mean([max(score.prevalence, 1 - score.prevalence) for score in scores])),
        }

    def write_details(self, folder: Path) -> None:
        """Write `per_attribute.csv` and the bar chart `average_precision.png`."""
        scores = self._scores()
        write_csv(folder / PER_ATTRIBUTE, [score._asdict() for score in scores])
        draw_average_precisions(
            {score.attribute: (score.ap, score.prevalence) for score in scores if not np.isnan(score.ap)},
            folder / PICTURE,
        )

    def count_at_thresholds(self) -> list[ThresholdCounts]:
        """Of each attribute."""
        if not self._truth:
            return []
        predicted, truth = np.concatenate(self._predicted), np.concatenate(self._truth)
        return [
            count_at_thresholds(name, predicted[:, column], truth[:, column], int(truth[:, column].sum()))
            for column, name in enumerate(self._names)
        ]

    def _scores(self) -> list[AttributeScore]:
        from sklearn.metrics import average_precision_score  # slow to import

        if not self._truth:
            return []
        predicted, truth = np.concatenate(self._predicted), np.concatenate(self._truth)
        scores = []
        for column, name in enumerate(self._names):
            positive, probability = truth[:, column], predicted[:, column]
            has_both = positive.any() and not positive.all()
            ap = float(average_precision_score(positive, probability)) if has_both else float("nan")
            accuracy = float(((probability >= self._threshold) == positive).mean())
            scores.append(AttributeScore(name, int(positive.sum()), float(positive.mean()), ap, accuracy))
        return scores
