"""Thresholds, folds and rates against brute force and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from tasks.embedding.verification import best_threshold, far_points, fold_accuracies


def pairs(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    same = rng.random(number) < 0.5
    return np.round(rng.normal(0.4 * same, 0.25), 2), same  # rounded: many are equal


def accuracy(threshold: float, similarities: np.ndarray, same: np.ndarray) -> float:
    return float(((similarities >= threshold) == same).mean())


def test_no_other_threshold_is_right_more_often(rng: np.random.Generator) -> None:
    for _ in range(20):
        similarities, same = pairs(rng, int(rng.integers(2, 60)))
        best = accuracy(best_threshold(similarities, same), similarities, same)
        cuts = np.concatenate([[-9], np.unique(similarities), [9]])
        assert best == max(accuracy(cut, similarities, same) for cut in cuts)


def test_threshold_by_hand() -> None:
    similarities, same = np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True])
    assert best_threshold(similarities, same) == pytest.approx(0.4)
    assert best_threshold(similarities, np.ones(4, bool)) < 0.1
    assert best_threshold(similarities, np.zeros(4, bool)) > 0.9


def test_accuracy_of_folds_by_hand() -> None:
    """Fold 0 is told at 0.55, which the others give; fold 1 and 2 at thresholds of their others."""
    similarities = np.array([0.9, 0.5, 0.8, 0.3, 0.8, 0.3])
    same = np.array([True, False] * 3)
    folds = np.array([0, 0, 1, 1, 2, 2])
    assert fold_accuracies(similarities, same, folds, [2, 2, 2]).tolist() == [1, 1, 1]
    similarities[0] = 0.4  # below 0.55: now wrong, and the only pair that is, unless a fold chose its own threshold
    assert fold_accuracies(similarities, same, folds, [2, 2, 2])[0] == 0.5


def test_pairs_that_cannot_be_compared_are_wrong() -> None:
    """Two pairs of fold 0 and all of fold 2 have no similarity; a fold whose others have none has no threshold."""
    similarities, same = np.array([0.9, 0.2, 0.8, 0.3]), np.array([True, False] * 2)
    assert fold_accuracies(similarities, same, np.array([0, 0, 1, 1]), [4, 2, 2]).tolist() == [2 / 4, 1, 0]
    assert fold_accuracies(similarities, same, np.array([1, 1, 1, 1]), [4, 4]).tolist() == [0, 0]


def test_folds_never_leak_thresholds(rng: np.random.Generator) -> None:
    """What is in a fold does not move the threshold that it is told at, which is that of the other folds alone."""
    similarities, same = pairs(rng, 200)
    folds = np.repeat(np.arange(10), 20)
    for fold in range(10):
        here = folds == fold
        threshold = best_threshold(similarities[~here], same[~here])
        changed, turned = similarities.copy(), same.copy()
        changed[here], turned[here] = rng.normal(0, 5, 20), rng.random(20) < 0.5
        expected = accuracy(threshold, changed[here], turned[here])
        assert fold_accuracies(changed, turned, folds, [20] * 10)[fold] == expected
        # a threshold of the fold's own would do better, so the law can be broken
        assert accuracy(best_threshold(changed[here], turned[here]), changed[here], turned[here]) > expected


def test_rates_are_the_best_that_the_false_accept_rate_allows(rng: np.random.Generator) -> None:
    similarities, same = pairs(rng, 2000)
    for point in far_points(similarities, same, (0.1, 0.01, 0.002)):
        reachable = [
            (similarities[same] >= cut).mean()
            for cut in np.append(np.unique(similarities), 9)
            if (similarities[~same] >= cut).mean() <= point.far
        ]
        assert point.tar == pytest.approx(max(reachable))
        assert (similarities[~same] >= point.threshold).mean() <= point.far
        assert (similarities[same] >= point.threshold).mean() == pytest.approx(point.tar)
        false_rates, true_rates, _ = roc_curve(same, similarities)
        assert point.tar == pytest.approx(true_rates[false_rates <= point.far].max())


def test_a_rate_that_too_few_pairs_support_is_refused() -> None:
    """300 pairs of different persons: one of them is a rate of 1 / 300, so nothing is known of 1e-3."""
    similarities = np.concatenate([np.full(50, 0.9), np.linspace(-0.5, 0.5, 300)])
    same = np.arange(350) < 50
    supported, refused = far_points(similarities, same, (1 / 300, 1e-3))
    assert (supported.tar, supported.impostor_pairs) == (1, 300)
    assert np.isnan(refused.tar)
    assert np.isnan(refused.threshold)
    (nothing,) = far_points(similarities[:50], same[:50], (0.1,))
    assert np.isnan(nothing.tar)
