"""Average precision against a worked example and scikit-learn, and chance level."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_curve

from datasets.types import Attributes
from tasks.attributes.metric import AttributesMetric
from tests.tasks.laws import assert_merge_is_exact


def attributes(*rows: list[float]) -> list[Attributes]:
    return [Attributes(np.array(row, np.float32)) for row in rows]


def test_average_precision_of_a_worked_example() -> None:
    """Positives at ranks 1 and 3 of 4: (1/1 + 2/3) / 2."""
    metric = AttributesMetric(["Hat"])
    metric.update(attributes([0.9], [0.8], [0.7], [0.1]), attributes([1], [0], [1], [0]))
    assert metric.compute() == {
        "mean_ap": pytest.approx((1 + 2 / 3) / 2),
        "chance_mean_ap": 0.5,
        "accuracy": 0.75,
        "constant_accuracy": 0.5,
    }


def test_scores_equal_scikit_learns(rng: np.random.Generator, tmp_path: Path) -> None:
    truth = rng.random((200, 5)) < np.array([0.05, 0.2, 0.5, 0.9, 0.3])
    values = np.clip(0.4 * truth + rng.uniform(0, 0.6, truth.shape), 0, 1).astype(np.float32)
    metric = AttributesMetric(list("abcde"))
    predicted, true = attributes(*values.tolist()), attributes(*truth.astype(float).tolist())
    metric.update(predicted[:70], true[:70])
    metric.update(predicted[70:], true[70:])
    scores = metric.compute()
    assert scores["mean_ap"] == pytest.approx(average_precision_score(truth, values, average="macro"))
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth.ravel(), values.ravel() > 0.5))
    assert scores["chance_mean_ap"] == pytest.approx(truth.mean())
    assert scores["constant_accuracy"] == pytest.approx(np.maximum(truth.mean(0), 1 - truth.mean(0)).mean())
    metric.write_details(tmp_path)
    with (tmp_path / "per_attribute.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["attribute"] for row in rows] == list("abcde")
    assert [int(row["positives"]) for row in rows] == truth.sum(0).tolist()
    for column, row in enumerate(rows):
        ap = average_precision_score(truth[:, column], values[:, column])
        assert float(row["ap"]) == pytest.approx(ap, abs=1e-6)
    assert (tmp_path / "average_precision.png").is_file()


def test_a_random_ranking_scores_the_prevalence(rng: np.random.Generator) -> None:
    truth = rng.random((5000, 8)) < 0.3
    metric = AttributesMetric(list("abcdefgh"))
    metric.update(
        [Attributes(row) for row in rng.random(truth.shape).astype(np.float32)],
        [Attributes(row) for row in truth.astype(np.float32)],
    )
    scores = metric.compute()
    assert scores["mean_ap"] == pytest.approx(scores["chance_mean_ap"], abs=0.02)


def test_attributes_without_both_values_are_left_out() -> None:
    metric = AttributesMetric(["all", "none", "some"])
    assert np.isnan(metric.compute()["mean_ap"])
    metric.update(attributes([0.1, 0.1, 0.9], [0.1, 0.1, 0.1]), attributes([1, 0, 1], [1, 0, 0]))
    assert metric.compute()["mean_ap"] == 1
    assert metric.compute()["chance_mean_ap"] == 0.5


def test_counts_at_thresholds_are_on_scikit_learns_curves(rng: np.random.Generator) -> None:
    truth = rng.random((150, 3)) < np.array([0.1, 0.5, 0])
    values = np.clip(0.3 * truth + rng.uniform(0, 0.6, truth.shape), 0, 1).round(2).astype(np.float32)
    metric = AttributesMetric(["rare", "common", "never"], threshold=0.3)
    assert metric.count_at_thresholds() == []
    metric.update(attributes(*values.tolist()), attributes(*truth.astype(float).tolist()))
    assert metric.compute()["accuracy"] == pytest.approx(((values >= np.float32(0.3)) == truth)[:, :2].mean())
    *classes, never = metric.count_at_thresholds()
    for column, counts in enumerate(classes):
        precision, recall, thresholds = precision_recall_curve(truth[:, column], values[:, column])
        assert counts.num_objects == truth[:, column].sum()
        for row, threshold in enumerate(counts.thresholds.astype(np.float32)):
            first = int(np.searchsorted(thresholds, threshold))
            assert counts.recall[row] == pytest.approx(recall[first])
            if first < len(thresholds):
                assert counts.precision[row] == pytest.approx(precision[first])
            else:
                assert np.isnan(counts.precision[row])
    assert np.isnan(never.recall).all()


def test_what_is_unknown_does_not_count() -> None:
    """An attribute of one image, and one that the data do not have."""
    nan = float("nan")
    metric = AttributesMetric(["Hat", "Beard"])
    metric.update(attributes([0.9, 0.9], [0.8, 0.9], [0.2, 0.9]), attributes([1, nan], [nan, nan], [0, nan]))
    assert metric.compute() == {"mean_ap": 1, "chance_mean_ap": 0.5, "accuracy": 1, "constant_accuracy": 0.5}
    hat, beard = metric.count_at_thresholds()
    assert (hat.num_objects, beard.num_objects) == (1, 0)
    assert (hat.at(49).threshold, hat.true_positives[49], hat.false_positives[49]) == (0.5, 1, 0)
    assert not beard.false_positives.any()


def test_merging_is_exact(rng: np.random.Generator) -> None:
    truth = rng.random((61, 4)) < 0.4
    values = np.clip(0.3 * truth + rng.uniform(0, 0.7, truth.shape), 0, 1).round(2)  # rounded, for ties
    predicted, true = attributes(*values.tolist()), attributes(*truth.astype(float).tolist())
    assert_merge_is_exact(lambda: AttributesMetric(list("abcd")), predicted, true)
