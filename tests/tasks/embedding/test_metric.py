"""LFW's protocol and all pairs, against worked examples and scikit-learn."""

import csv
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from datasets.faces import Pair, Photo
from datasets.types import Face
from tasks.embedding.metric import VerificationMetric
from tests.tasks.laws import assert_merge_is_exact

FARS = (1e-1, 1e-4)


def faces(
    rng: np.random.Generator, num_identities: int, num_photos: int, spread: float
) -> tuple[list[Face], list[Face]]:
    predicted, truth = [], []
    for identity_id in range(num_identities):
        mean = rng.normal(size=16)
        for number in range(1, num_photos + 1):
            vector = mean + spread * rng.normal(size=16)
            predicted.append(Face(embedding=(vector / np.linalg.norm(vector)).astype(np.float32)))
            truth.append(Face(f"p{identity_id}", number))
    return predicted, truth


def test_all_pairs_equal_a_loop_and_scikit_learn(rng: np.random.Generator, tmp_path: Path) -> None:
    predicted, truth = faces(rng, 8, 5, 1.2)
    metric = VerificationMetric(FARS, None)
    metric.update(predicted[:13], truth[:13])
    metric.update(predicted[13:], truth[13:])
    scores = metric.compute()
    embeddings = [face.embedding for face in predicted]
    pairs = list(combinations(range(40), 2))
    similarities = [float(embeddings[i] @ embeddings[j]) for i, j in pairs]  # type: ignore[operator]
    same = [truth[i].identity == truth[j].identity for i, j in pairs]
    assert scores["auc"] == pytest.approx(roc_auc_score(same, similarities))
    num_correct = 0
    for i in range(40):
        candidates = [j for j in range(40) if j != i]
        nearest = max(candidates, key=lambda j: float(embeddings[i] @ embeddings[j]))  # type: ignore[operator]
        num_correct += truth[nearest].identity == truth[i].identity
    assert scores["nn_accuracy"] == pytest.approx(num_correct / 40)
    assert scores["chance_nn_accuracy"] == pytest.approx(4 / 39)
    assert np.isnan(scores["tar_at_far_1e-4"])
    assert 0 < scores["tar_at_far_1e-1"] <= 1

    metric.write_details(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"roc.png", "rates.csv", "embeddings.png", "hardest_pairs.csv"}
    with (tmp_path / "rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["impostor_pairs"]) for row in rows] == [same.count(False)] * 2
    with (tmp_path / "hardest_pairs.csv").open() as file:
        hardest = list(csv.DictReader(file))
    genuine = [s for s, is_same in zip(similarities, same, strict=True) if is_same]
    assert float(hardest[0]["similarity"]) == pytest.approx(min(genuine), abs=1e-6)
    assert hardest[0]["first_identity"] == hardest[0]["second_identity"]
    assert hardest[-1]["first_identity"] != hardest[-1]["second_identity"]


def test_folds_of_a_worked_example() -> None:
    """An axis for each of two identities; the third photo of `a` looks like `b`."""
    x, y = np.eye(2, dtype=np.float32)
    photos = {Photo("a", 1): x, Photo("a", 2): x, Photo("a", 3): y, Photo("b", 1): y, Photo("b", 2): y}

    def pair(a: tuple[str, int], b: tuple[str, int]) -> Pair:
        return Pair(Photo(*a), Photo(*b), a[0] == b[0])

    folds = [
        [pair(("a", 1), ("a", 2)), pair(("a", 1), ("b", 1))],
        [pair(("b", 1), ("b", 2)), pair(("a", 2), ("b", 2))],
        [pair(("a", 1), ("a", 3)), pair(("a", 1), ("b", 1))],  # the first pair looks like an impostor pair
    ]
    metric = VerificationMetric(FARS, folds)
    metric.update([Face(embedding=vector) for vector in photos.values()], [Face(*photo) for photo in photos])
    scores = metric.compute()
    assert scores["lfw_accuracy"] == pytest.approx(2.5 / 3)
    assert scores["lfw_accuracy_std"] == pytest.approx(np.std([1, 1, 0.5]))
    assert scores["chance_accuracy"] == 0.5
    assert scores["auc"] == pytest.approx(roc_auc_score([1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 0, 0]))
    assert "nn_accuracy" not in scores


def test_a_pair_with_a_missing_photo_is_an_error(rng: np.random.Generator) -> None:
    """Three of four pairs can be compared and are correct: (2/2 + 1/2) / 2. Chance is over all four, AUC over three."""
    predicted, truth = faces(rng, 2, 2, 0.1)
    folds = [
        [Pair(Photo("p0", 1), Photo("p0", 2), True), Pair(Photo("p0", 1), Photo("p1", 1), False)],
        [Pair(Photo("p1", 1), Photo("p1", 2), True), Pair(Photo("p0", 2), Photo("missing", 1), False)],
    ]
    metric = VerificationMetric(FARS, folds)
    metric.update(predicted, truth)
    with pytest.warns(
        UserWarning, match=r"1 of 4 pairs cannot be compared.* counts them as wrong.* use the remaining 3"
    ):
        scores = metric.compute()
    assert scores["lfw_accuracy"] == 0.75
    assert scores["lfw_accuracy_std"] == 0.25
    assert scores["chance_accuracy"] == 0.5
    assert scores["auc"] == 1


def test_leaving_out_a_misjudged_photo_does_not_raise_the_score() -> None:
    """Photo 3 of `a` looks like `b`, so its pair is an error with and without it."""
    x, y = np.eye(2, dtype=np.float32)
    photos = {Photo("a", 1): x, Photo("a", 2): x, Photo("b", 1): y, Photo("a", 3): y}
    easy = [Pair(Photo("a", 1), Photo("a", 2), True), Pair(Photo("a", 1), Photo("b", 1), False)]
    hard = Pair(Photo("a", 1), Photo("a", 3), True)
    folds = [[hard, easy[1]], easy, easy]
    scores = []
    for num_left_out in (0, 1):
        metric = VerificationMetric(FARS, folds)
        present = dict(list(photos.items())[: len(photos) - num_left_out])
        metric.update([Face(embedding=vector) for vector in present.values()], [Face(*photo) for photo in present])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores.append(metric.compute()["lfw_accuracy"])
    assert scores == [pytest.approx(2.5 / 3)] * 2


@pytest.mark.parametrize("folds", [None, [[Pair(Photo("a", 1), Photo("b", 1), False)]] * 2])
def test_an_empty_metric_is_nan(folds: list[list[Pair]] | None) -> None:
    metric = VerificationMetric(FARS, folds)
    if folds is None:
        assert np.isnan(list(metric.compute().values())).all()
    else:
        with pytest.warns(UserWarning, match="2 of 2 pairs cannot be compared"):
            assert np.isnan(list(metric.compute().values())).all()


def test_merging_is_exact(rng: np.random.Generator) -> None:
    """For all pairs, and for folds whose pairs have photos in different parts."""
    predicted, truth = faces(rng, 12, 3, 0.8)
    order = rng.permutation(len(truth))
    predicted, truth = [predicted[row] for row in order], [truth[row] for row in order]
    folds = [
        [pair for a in range(fold, 12, 3) for pair in (_pair((a, 1), (a, 2)), _pair((a, 3), ((a + 1) % 12, 2)))]
        for fold in range(3)
    ]
    assert_merge_is_exact(lambda: VerificationMetric(FARS, None), predicted, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no pair is left out
        assert_merge_is_exact(lambda: VerificationMetric(FARS, folds), predicted, truth)


def _pair(first: tuple[int, int], second: tuple[int, int]) -> Pair:
    (a, i), (b, j) = first, second
    return Pair(Photo(f"p{a}", i), Photo(f"p{b}", j), a == b)
