"""Average precision and accuracy of each attribute, with chance levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.types import Attributes
from tasks.attributes.draw import draw_average_precisions
from tasks.common.evaluation.report import write_csv
from tasks.common.inference_task import Metric
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
        self._predicted: list[NDArray[np.float32]] = []  # (N, K) of each batch; NaN where the truth is unknown
        self._truth: list[NDArray[np.bool_]] = []

    def update(self, predicted: Sequence[Attributes], truth: Sequence[Attributes]) -> None:
        """Add a batch; attributes whose truth is NaN, unknown, do not count."""
        true = np.stack([attributes.values for attributes in truth])
        self._predicted.append(np.where(np.isnan(true), true, [attributes.values for attributes in predicted]))
        self._truth.append(true > 0.5)

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
        """Of each attribute, in the images of which it is known."""
        return [
            count_at_thresholds(name, probability, is_present, int(is_present.sum()))
            for name, probability, is_present in self._columns()
        ]

    def _scores(self) -> list[AttributeScore]:
        from sklearn.metrics import average_precision_score  # slow to import

        scores = []
        for name, probability, is_present in self._columns():
            has_both = is_present.any() and not is_present.all()
            ap = float(average_precision_score(is_present, probability)) if has_both else float("nan")
            is_right = (probability >= self._threshold) == is_present
            prevalence, accuracy = (
                float(mask.mean()) if len(mask) else float("nan") for mask in (is_present, is_right)
            )
            scores.append(AttributeScore(name, int(is_present.sum()), prevalence, ap, accuracy))
        return scores

    def _columns(self) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_]]]:
        """The name of each attribute, its probabilities and truth in the images of which it is known."""
        if not self._truth:
            return
        predicted, truth = np.concatenate(self._predicted), np.concatenate(self._truth)
        for column, name in enumerate(self._names):
            is_known = ~np.isnan(predicted[:, column])
            yield name, predicted[is_known, column], truth[is_known, column]
