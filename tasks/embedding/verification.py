"""Do two photos show one person: accuracy, thresholds and rates from similarities of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class FarPoint(NamedTuple):
    """What is accepted at a false accept rate; NaN where too few pairs support it.

    Attributes:
        far: at most so large a share of the pairs of different persons is accepted.
        impostor_pairs: of different persons; there must be 1 / far.
        tar: the true accept rate: the share of the pairs of one person that is accepted.
        threshold: a pair is accepted whose similarity is as large.
    """

    far: float
    impostor_pairs: int
    tar: float
    threshold: float


def fold_accuracies(similarities: Floats, same: Bools, folds: NDArray[np.int64], sizes: Sequence[int]) -> Floats:
    """The accuracy on each fold at the threshold that is best on all other folds.

    Args:
        similarities: (P,) of the pairs that could be compared.
        same: (P,), whether a pair shows one person.
        folds: (P,), of each pair, from 0.
        sizes: the number of pairs of each fold; those that could not be compared count as wrong.

    Source: Huang et al. 2007 (Labeled Faces in the Wild), "View 2".
    """
    accuracies = []
    for fold, size in enumerate(sizes):
        here = folds == fold
        num_right = 0
        if not here.all():  # else there is nothing to choose a threshold by
            threshold = best_threshold(similarities[~here], same[~here])
            num_right = int(((similarities[here] >= threshold) == same[here]).sum())
        accuracies.append(num_right / size)
    return np.array(accuracies)


def best_threshold(similarities: Floats, same: Bools) -> float:
    """The threshold at which most pairs are right, midway between two similarities; of equally good ones the lowest."""
    order = np.argsort(similarities, kind="stable")
    values, is_same = similarities[order], same[order]
    # With the threshold below the k-th pair: the different ones before it and the same ones from it on are right.
    right = np.concatenate([[0], np.cumsum(~is_same)]) + is_same.sum() - np.concatenate([[0], np.cumsum(is_same)])
    can_cut = np.concatenate([[True], np.diff(values) > 0, [True]])
    k = int(np.argmax(np.where(can_cut, right, -1)))
    below = values[k - 1] if k > 0 else values[0] - 1
    above = values[k] if k < len(values) else values[-1] + 1
    return float((below + above) / 2)


def far_points(similarities: Floats, same: Bools, fars: tuple[float, ...]) -> list[FarPoint]:
    """The highest true accept rate at each false accept rate, from both sides' similarities."""
    impostors = int((~same).sum())
    rates = roc_curve(same, similarities, drop_intermediate=False) if same.any() and impostors else None
    points = []
    for far in fars:
        point = FarPoint(far, impostors, float("nan"), float("nan"))
        if rates is not None and impostors * far >= 1 - 1e-9:
            false_rates, true_rates, thresholds = rates
            last = int(np.flatnonzero(false_rates <= far + 1e-12)[-1])  # rates rise as the threshold falls
            point = FarPoint(far, impostors, float(true_rates[last]), float(thresholds[last]))
        points.append(point)
    return points
