"""Precision, recall and F1 by threshold: the counts behind them, and the threshold that a rule chooses.

A prediction counts from its score on: it is made at all thresholds up to the score. Where nothing is predicted there is
no precision, and where there are no objects neither precision nor recall nor F1 is defined; they are NaN, not 0.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = "thresholds.csv"
ALL = "all"  # the name of the counts over all classes
GRID = np.arange(1, 100) / 100

Floats = NDArray[np.float64]


class OperatingPoint(NamedTuple):
    """A threshold, and precision, recall and F1 at it."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ThresholdCounts:
    """True and false positives of a class at each threshold.

    Attributes:
        name: of the class, or `ALL`.
        thresholds: (T,), ascending, in (0, 1).
        true_positives: (T,), predictions with a score of at least the threshold that are right.
        false_positives: (T,), those that are wrong.
        num_objects: to find.
    """

    name: str
    thresholds: Floats
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    num_objects: int

    @property
    def precision(self) -> Floats:
        """(T,), the fraction of the predictions that are right; NaN without predictions or objects."""
        return _ratio(self.true_positives, (self.true_positives + self.false_positives) * bool(self.num_objects))

    @property
    def recall(self) -> Floats:
        """(T,), the fraction of the objects that are found; NaN without objects."""
        return _ratio(self.true_positives, np.full_like(self.true_positives, self.num_objects))

    @property
    def f1(self) -> Floats:
        """(T,), the harmonic mean of both; 0 where no object is found, NaN without objects."""
        num_predicted = self.true_positives + self.false_positives
        return _ratio(2 * self.true_positives, (num_predicted + self.num_objects) * bool(self.num_objects))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the table, one for each threshold; what is not defined is an empty cell."""
        scores = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        for row, threshold in enumerate(self.thresholds.tolist()):
            yield {
                "class": self.name,
                "threshold": threshold,
                "true_positives": int(self.true_positives[row]),
                "false_positives": int(self.false_positives[row]),
                "objects": self.num_objects,
                **{key: "" if np.isnan(values[row]) else float(values[row]) for key, values in scores.items()},
            }

    def choose(self, rule: str) -> OperatingPoint | None:
        """The operating point that a rule chooses; None if there is none.

        Precision is not monotone in the threshold, but a higher threshold with a lower precision has lost objects, not
        false positives. So the lowest threshold with enough precision is taken, which finds the most objects.

        Args:
            rule: `f1` for the highest F1, and of equal ones the threshold in the middle; `precision=0.9` for the lowest
                threshold with that precision; or `recall=0.8` for the highest threshold with that recall.
        """
        kind, _, value = rule.partition("=")
        if kind == "f1":
            highest = np.nanmax(self.f1, initial=0)
            rows = np.flatnonzero(self.f1 == highest) if highest > 0 else np.zeros(0, np.int64)
            row = rows[len(rows) // 2 :]
        elif kind == "precision":
            row = np.flatnonzero(self.precision >= float(value))
        else:
            row = np.flatnonzero(self.recall >= float(value))[::-1]
        return self.at(int(row[0])) if len(row) else None

    def highest(self, score: str) -> OperatingPoint:
        """The operating point with the highest `precision` or `recall`, which must be defined somewhere."""
        return self.at(int(np.nanargmax(getattr(self, score))))

    def at(self, row: int) -> OperatingPoint:
        """The operating point of the threshold in that row."""
        values = (self.thresholds, self.precision, self.recall, self.f1)
        return OperatingPoint(*(float(value[row]) for value in values))


def count_at_thresholds(
    name: str, scores: NDArray[Any], is_right: NDArray[np.bool_], num_objects: int, lowest: float = 0
) -> ThresholdCounts:
    """True and false positives at the thresholds 0.01, 0.02, ... 0.99.

    Args:
        name: of the class.
        scores: (N,), of the predictions.
        is_right: (N,), which of them are right.
        num_objects: to find.
        lowest: thresholds below it are left out: predictions that score less were dropped before.
    """
    thresholds = GRID[min(lowest, GRID[-1]) <= GRID]
    # In the type of the scores, as where a threshold is applied: 0.7 in float32 is less than 0.7.
    right, wrong = (_num_from(scores[mask], thresholds.astype(scores.dtype)) for mask in (is_right, ~is_right))
    return ThresholdCounts(name, thresholds, right, wrong, num_objects)


def pool(classes: Sequence[ThresholdCounts]) -> ThresholdCounts:
    """The counts over all classes, one or more."""
    right, wrong = np.sum([(counts.true_positives, counts.false_positives) for counts in classes], 0)
    return ThresholdCounts(ALL, classes[0].thresholds, right, wrong, sum(counts.num_objects for counts in classes))


def read_pooled(path: Path) -> ThresholdCounts:
    """The counts over all classes, which are first in a table.

    Raises:
        ValueError: if the file is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        thresholds = np.unique([float(row["threshold"]) for row in rows])
        first = [row for row in rows[: len(thresholds)] if row["class"] == ALL]
        right, wrong, objects = (
            np.array([int(row[key]) for row in first], np.int64)
            for key in ("true_positives", "false_positives", "objects")
        )
        (num_objects,) = np.unique(objects).tolist()
    except (OSError, LookupError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"{path}: not a table as evaluate writes it; remove it and run evaluate again") from error
    return ThresholdCounts(ALL, thresholds, right, wrong, num_objects)


def _num_from(scores: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.int64]:
    """How many of the scores are at least each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> Floats:
    ratio = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio
