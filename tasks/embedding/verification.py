"""Face verification: accuracy, thresholds and accept rates from the similarities of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class OperatingPoint(NamedTuple):
    """The true accept rate at a false accept rate; NaN with fewer than 1 / far impostor pairs.

    Attributes:
        far: upper bound on the false accept rate, the fraction of impostor pairs that are accepted.
        impostor_pairs: number of pairs of different identities.
        tar: true accept rate, the fraction of genuine pairs that are accepted.
        threshold: pairs with at least this similarity are accepted.
    """

    far: float
    impostor_pairs: int
    tar: float
    threshold: float


def fold_accuracies(similarities: Floats, same: Bools, folds: NDArray[np.int64], sizes: Sequence[int]) -> Floats:
    """The accuracy on each fold at the threshold that is best on all other folds.

    Args:
        similarities: (P,) of the pairs that could be compared.
        same: (P,), whether both photos show one identity.
        folds: (P,), fold index of each pair.
        sizes: pairs in each fold; those that could not be compared count as errors.

    Source: Huang et al. 2007 (Labeled Faces in the Wild), "View 2".
    """
    accuracies = []
    for fold, size in enumerate(sizes):
        in_fold = folds == fold
        num_correct = 0
        if not in_fold.all():  # else there are no pairs to choose the threshold on
            threshold = best_threshold(similarities[~in_fold], same[~in_fold])
            num_correct = int(((similarities[in_fold] >= threshold) == same[in_fold]).sum())
        accuracies.append(num_correct / size)
    return np.array(accuracies)


def best_threshold(similarities: Floats, same: Bools) -> float:
    """The threshold with the highest accuracy, midway between two similarities; the lowest of several."""
    order = np.argsort(similarities, kind="stable")
    values, is_same = similarities[order], same[order]
    # With the threshold below the k-th pair, impostors before it and genuine pairs from it on are correct.
    num_correct = np.concatenate([[0], np.cumsum(~is_same)]) + is_same.sum() - np.concatenate([[0], np.cumsum(is_same)])
    can_cut = np.concatenate([[True], np.diff(values) > 0, [True]])
    k = int(np.argmax(np.where(can_cut, num_correct, -1)))
    below = values[k - 1] if k > 0 else values[0] - 1
    above = values[k] if k < len(values) else values[-1] + 1
    return float((below + above) / 2)


def operating_points(similarities: Floats, same: Bools, fars: tuple[float, ...]) -> list[OperatingPoint]:
    """The highest true accept rate at each false accept rate."""
    from sklearn.metrics import roc_curve  # slow to import

    num_impostors = int((~same).sum())
    rates = roc_curve(same, similarities, drop_intermediate=False) if same.any() and num_impostors else None
    points = []
    for far in fars:
        point = OperatingPoint(far, num_impostors, float("nan"), float("nan"))
        if rates is not None and num_impostors * far >= 1 - 1e-9:
            false_rates, true_rates, thresholds = rates
            last = int(np.flatnonzero(false_rates <= far + 1e-12)[-1])  # rates rise with falling threshold
            point = OperatingPoint(far, num_impostors, float(true_rates[last]), float(thresholds[last]))
        points.append(point)
    return points
