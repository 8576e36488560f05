"""Segmentation scores: against scikit-learn's and torchmetrics', and boundaries by distances of all pairs of pixels."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import confusion_matrix, jaccard_score

from datasets.types import VOID, Mask
from tasks.segmentation.metric import SegmentationMetric, boundary
from tests.tasks.laws import assert_merge_is_exact

NAMES = ("sky", "road", "car", "tree", "never")


def random_masks(rng: np.random.Generator, count: int = 12) -> Iterator[tuple[Mask, Mask]]:
    """Blocky predictions and truths of different sizes, with void in the truth."""
    for _ in range(count):
        height, width = rng.integers(3, 9, 2).tolist()
        truth = np.kron(rng.choice([0, 1, 2, 3, VOID], (height, width)), np.ones((6, 6), int)).astype(np.uint8)
        predicted = np.where(rng.random(truth.shape) < 0.6, truth % VOID, rng.integers(0, 4, truth.shape))
        yield Mask(predicted.astype(np.uint8)), Mask(truth)


def test_scores_are_scikit_learns(rng: np.random.Generator, tmp_path: Path) -> None:
    metric, pairs = SegmentationMetric(NAMES), list(random_masks(rng))
    for predicted, truth in pairs:
        metric.update([predicted], [truth])
    true = np.concatenate([truth.class_ids.ravel() for _, truth in pairs])
    found = np.concatenate([predicted.class_ids.ravel() for predicted, _ in pairs])[true != VOID]
    true = true[true != VOID]
    scores = metric.compute()
    ious = jaccard_score(true, found, average=None, labels=range(4))
    matrix = confusion_matrix(true, found)
    assert scores["mIoU"] == pytest.approx(ious.mean(), abs=1e-12)  # without the class that is in neither
    assert scores["pixel_accuracy"] == pytest.approx(matrix.trace() / matrix.sum(), abs=1e-12)
    assert scores["mean_accuracy"] == pytest.approx((matrix.diagonal() / matrix.sum(1)).mean(), abs=1e-12)
    metric.write_details(tmp_path)
    rows = list(csv.DictReader((tmp_path / "per_class.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == list(NAMES[:4])
    np.testing.assert_allclose([float(row["IoU"]) for row in rows], ious, atol=1e-6)


def test_scores_are_those_of_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex  # slow to import

    metric, num_classes = SegmentationMetric(NAMES), len(NAMES)
    references = {
        "mIoU": MulticlassJaccardIndex(num_classes, ignore_index=VOID),
        "pixel_accuracy": MulticlassAccuracy(num_classes, average="micro", ignore_index=VOID),
        "mean_accuracy": MulticlassAccuracy(num_classes, average="macro", ignore_index=VOID),
    }
    for predicted, truth in random_masks(rng):
        metric.update([predicted], [truth])
        for reference in references.values():
            reference.update(*(torch.from_numpy(mask.class_ids.astype(np.int64)) for mask in (predicted, truth)))
    scores = metric.compute()
    for name, reference in references.items():
        assert scores[name] == pytest.approx(float(reference.compute()), abs=1e-6)


def test_a_mask_fed_back_is_1_and_merging_is_exact(rng: np.random.Generator) -> None:
    predicted, truth = zip(*random_masks(rng), strict=True)
    metric = SegmentationMetric(NAMES)
    metric.update([Mask(mask.class_ids % VOID) for mask in truth], truth)  # class 0 where the truth is void
    assert set(metric.compute().values()) == {1.0}
    assert_merge_is_exact(lambda: SegmentationMetric(NAMES), predicted, truth)
    assert np.isnan(list(SegmentationMetric(NAMES).compute().values())).all()


def near(one: NDArray[np.uint8], other: NDArray[np.uint8], radius: int) -> int:
    """The number of pixels of one that have a pixel of the other within the radius."""
    ours, theirs = np.argwhere(one), np.argwhere(other)
    return int((cdist(ours, theirs).min(1) <= radius).sum()) if len(theirs) and len(ours) else 0


def test_boundary_f1_is_that_of_distances() -> None:
    """A square that is shifted by two pixels: at a tolerance of one, the parts that are along the shift are right."""
    truth, predicted = np.zeros((80, 100), np.uint8), np.zeros((80, 100), np.uint8)
    truth[20:50, 30:60] = 1
    predicted[20:50, 32:62] = 1
    radius = round(0.0075 * np.hypot(80, 100))
    assert radius == 1
    f_scores = []
    for class_id in (0, 1):
        ours, theirs = boundary(predicted, class_id), boundary(truth, class_id)
        precision, recall = near(ours, theirs, radius) / ours.sum(), near(theirs, ours, radius) / theirs.sum()
        f_scores.append(2 * precision * recall / (precision + recall))
    metric = SegmentationMetric(("ground", "square"))
    metric.update([Mask(predicted)], [Mask(truth)])
    assert metric.compute()["boundary_f1"] == pytest.approx(np.mean(f_scores))
    assert 0.4 < np.mean(f_scores) < 0.6
    metric = SegmentationMetric(("ground", "square"))
    metric.update([Mask(np.roll(truth, 1, 1))], [Mask(truth)])
    assert metric.compute()["boundary_f1"] == 1


def test_boundaries_are_between_classes_only() -> None:
    ids = np.zeros((5, 7), np.uint8)
    ids[:, 3] = VOID
    ids[:, 4:] = 1
    assert not boundary(ids, 0).any()  # beside void and the edge of the image
    ids[:, 3] = 1
    assert np.argwhere(boundary(ids, 0)).tolist() == [[row, 2] for row in range(5)]
