"""Cross-entropy against the formula in NumPy."""

import numpy as np
import pytest
import torch

from datasets.mixing import LabelMixing
from datasets.types import Example, Label
from tasks.classification.loss import class_targets, classification_loss
from tasks.common.model.logits import Logits
from tests.tasks.laws import as_examples


def reference_loss(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> float:
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smoothed = (1 - smoothing) * targets + smoothing / targets.shape[1]
    return float(-(smoothed * log_probabilities).sum(1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_and_mixed_labels(smoothing: float, rng: np.random.Generator) -> None:
    logits = rng.normal(size=(3, 4))
    hard = [Label(2), Label(0), Label(3)]
    mixture, *one_hot = np.array([[0.3, 0, 0.7, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    mixed = [Label(2, mixture), Label(0, one_hot[0]), Label(3, one_hot[1])]
    for truth, targets in (
        (hard, np.eye(4)[[2, 0, 3]]),
        (mixed, np.stack([mixture, *np.eye(4)[[0, 3]]])),
    ):
        outputs = Logits(torch.from_numpy(logits).float())
        loss = classification_loss(outputs, class_targets(as_examples(truth)), label_smoothing=smoothing)
        assert loss["total"].item() == pytest.approx(reference_loss(logits, targets, smoothing), abs=1e-5)


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 0.2, "cutmix_alpha": 0}, {"mixup_alpha": 0, "cutmix_alpha": 1.0}])
def test_all_labels_of_a_mixed_batch_are_probabilities(alphas: dict[str, float], rng: np.random.Generator) -> None:
    """Also where both mixed images have the same class."""
    pixels = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    plain = [Example(image, Label(class_id), "") for image, class_id in zip(pixels, (2, 2, 0, 1), strict=True)]
    assert class_targets(plain).classes.tolist() == [2, 2, 0, 1]
    for seed in range(20):
        targets = class_targets(LabelMixing(3, **alphas)(plain, seed)).classes
        assert targets.shape == (4, 3)
        assert targets.sum(1).tolist() == pytest.approx([1] * 4)
        assert targets[0].tolist() == pytest.approx([0, 0, 1])
