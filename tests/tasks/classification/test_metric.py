"""Top-1, top-5 and the tables against scikit-learn and worked examples."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_score, top_k_accuracy_score

from datasets.types import Label
from tasks.classification.metric import ClassificationMetric, rank
from tests.tasks.laws import assert_merge_is_exact


def random_predictions(
    rng: np.random.Generator, num_images: int, num_classes: int
) -> tuple[list[Label], list[Label], np.ndarray]:
    logits = rng.normal(size=(num_images, num_classes)).astype(np.float32)
    truth = rng.integers(0, num_classes, num_images)
    logits[np.arange(num_images), truth] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predicted = [Label(int(row.argmax()), row) for row in probabilities]
    return predicted, [Label(int(class_id)) for class_id in truth], probabilities


def test_scores_equal_scikit_learns(rng: np.random.Generator) -> None:
    predicted, truth, probabilities = random_predictions(rng, 300, 12)
    metric = ClassificationMetric([str(i) for i in range(12)])
    metric.update(predicted[:100], truth[:100])
    metric.update(predicted[100:], truth[100:])
    ids = [label.class_id for label in truth]
    expected = {
        "top1": top_k_accuracy_score(ids, probabilities, k=1, labels=range(12)),
        "top5": top_k_accuracy_score(ids, probabilities, k=5, labels=range(12)),
        "mean_per_class": balanced_accuracy_score(ids, probabilities.argmax(1)),
    }
    assert metric.compute() == pytest.approx(expected)
    assert 0.3 < expected["top1"] < expected["top5"] < 1


def test_top5_is_not_defined_for_five_classes(rng: np.random.Generator) -> None:
    predicted, truth, _ = random_predictions(rng, 20, 5)
    metric = ClassificationMetric(list("abcde"))
    metric.update(predicted, truth)
    assert np.isnan(metric.compute()["top5"])


def test_an_empty_metric_is_nan() -> None:
    assert all(np.isnan(value) for value in ClassificationMetric(list("abcdef")).compute().values())


def test_rank_of_a_worked_example() -> None:
    probabilities = np.array([0.2, 0.5, 0.2, 0.1], np.float32)
    assert [rank(Label(1, probabilities), class_id) for class_id in range(4)] == [1, 0, 2, 3]  # ties go to the lower id
    assert rank(Label(2), 2) == 0
    assert rank(Label(2), 1) > 1000


def test_details_by_class(rng: np.random.Generator, tmp_path: Path) -> None:
    predicted, truth, probabilities = random_predictions(rng, 200, 7)
    metric = ClassificationMetric([f"class {i}" for i in range(9)])  # the last two never occur
    wide = [Label(p.class_id, np.append(p.probabilities, [0, 0]).astype(np.float32)) for p in predicted]
    metric.update(wide, truth)
    metric.write_details(tmp_path)
    with (tmp_path / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [f"class {i}" for i in range(7)]
    ids, best = np.array([label.class_id for label in truth]), probabilities.argmax(1)
    for class_id, row in enumerate(rows):
        assert int(row["images"]) == (ids == class_id).sum()
        assert float(row["top1"]) == pytest.approx((best[ids == class_id] == class_id).mean(), abs=1e-6)
    expected = precision_score(ids, best, average=None)
    assert [float(row["precision"]) for row in rows] == pytest.approx(list(expected), abs=1e-6)
    wrong = np.bincount(best[(ids == 0) & (best != 0)], minlength=9)
    assert rows[0]["most_confused_with"] == f"class {wrong.argmax()}"
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_merging_is_exact(rng: np.random.Generator) -> None:
    predicted, truth, _ = random_predictions(rng, 61, 9)
    assert_merge_is_exact(lambda: ClassificationMetric(list("abcdefghij")), predicted, truth)  # the last never occurs
