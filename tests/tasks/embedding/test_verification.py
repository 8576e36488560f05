"""Thresholds, fold accuracies and accept rates against brute force and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from tasks.embedding.verification import best_threshold, fold_accuracies, operating_points


def random_pairs(rng: np.random.Generator, num_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    same = rng.random(num_pairs) < 0.5
    return np.round(rng.normal(0.4 * same, 0.25), 2), same  # rounded, for ties


def accuracy(threshold: float, similarities: np.ndarray, same: np.ndarray) -> float:
    return float(((similarities >= threshold) == same).mean())


def test_no_other_threshold_is_more_accurate(rng: np.random.Generator) -> None:
    for _ in range(20):
        similarities, same = random_pairs(rng, int(rng.integers(2, 60)))
        best = accuracy(best_threshold(similarities, same), similarities, same)
        cuts = np.concatenate([[-9], np.unique(similarities), [9]])
        assert best == max(accuracy(cut, similarities, same) for cut in cuts)


def test_threshold_of_a_worked_example() -> None:
    similarities, same = np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True])
    assert best_threshold(similarities, same) == pytest.approx(0.4)
    assert best_threshold(similarities, np.ones(4, bool)) < 0.1
    assert best_threshold(similarities, np.zeros(4, bool)) > 0.9


def test_fold_accuracies_of_a_worked_example() -> None:
    """Fold 0 is scored at 0.55, the best threshold of folds 1 and 2; these likewise at that of the other two."""
    similarities = np.array([0.9, 0.5, 0.8, 0.3, 0.8, 0.3])
    same = np.array([True, False] * 3)
    folds = np.array([0, 0, 1, 1, 2, 2])
    assert fold_accuracies(similarities, same, folds, [2, 2, 2]).tolist() == [1, 1, 1]
    similarities[0] = 0.4  # below 0.55: now the only error, unless a fold chose its own threshold
    assert fold_accuracies(similarities, same, folds, [2, 2, 2])[0] == 0.5


def test_pairs_that_cannot_be_compared_are_errors() -> None:
    """Two pairs of fold 0 and all of fold 2 have no similarity; without pairs in other folds there is no threshold."""
    similarities, same = np.array([0.9, 0.2, 0.8, 0.3]), np.array([True, False] * 2)
    assert fold_accuracies(similarities, same, np.array([0, 0, 1, 1]), [4, 2, 2]).tolist() == [2 / 4, 1, 0]
    assert fold_accuracies(similarities, same, np.array([1, 1, 1, 1]), [4, 4]).tolist() == [0, 0]


def test_folds_never_leak_thresholds(rng: np.random.Generator) -> None:
    """A fold's own pairs do not affect its threshold, which depends only on the other folds."""
    similarities, same = random_pairs(rng, 200)
    folds = np.repeat(np.arange(10), 20)
    for fold in range(10):
        in_fold = folds == fold
        threshold = best_threshold(similarities[~in_fold], same[~in_fold])
        changed, relabelled = similarities.copy(), same.copy()
        changed[in_fold], relabelled[in_fold] = rng.normal(0, 5, 20), rng.random(20) < 0.5
        expected = accuracy(threshold, changed[in_fold], relabelled[in_fold])
        assert fold_accuracies(changed, relabelled, folds, [20] * 10)[fold] == expected
        # The fold's own threshold would do better, so the test can fail.
        leaked = best_threshold(changed[in_fold], relabelled[in_fold])
        assert accuracy(leaked, changed[in_fold], relabelled[in_fold]) > expected


def test_true_accept_rate_is_the_best_at_its_false_accept_rate(rng: np.random.Generator) -> None:
    similarities, same = random_pairs(rng, 2000)
    for point in operating_points(similarities, same, (0.1, 0.01, 0.002)):
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


def test_a_rate_with_too_few_impostor_pairs_is_nan() -> None:
    """With 300 impostor pairs the smallest rate is 1 / 300, so 1e-3 is undefined."""
    similarities = np.concatenate([np.full(50, 0.9), np.linspace(-0.5, 0.5, 300)])
    same = np.arange(350) < 50
    supported, undefined = operating_points(similarities, same, (1 / 300, 1e-3))
    assert (supported.tar, supported.impostor_pairs) == (1, 300)
    assert np.isnan(undefined.tar)
    assert np.isnan(undefined.threshold)
    (no_impostors,) = operating_points(similarities[:50], same[:50], (0.1,))
    assert np.isnan(no_impostors.tar)
