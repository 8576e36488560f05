"""Cross-entropy by the formula."""

import numpy as np
import pytest
import torch

from datasets.types import Label
from tasks.classification.loss import classification_loss
from tasks.common.logits import Logits


def by_hand(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> float:
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smoothed = (1 - smoothing) * targets + smoothing / targets.shape[1]
    return float(-(smoothed * log_probabilities).sum(1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_certain_mixed_and_both_together(smoothing: float, rng: np.random.Generator) -> None:
    logits = rng.normal(size=(3, 4))
    certain = [Label(2), Label(0), Label(3)]
    mixture = np.array([0.3, 0, 0.7, 0], np.float32)
    for truth, targets in (
        (certain, np.eye(4)[[2, 0, 3]]),
        ([Label(2, mixture), *certain[1:]], np.stack([mixture, *np.eye(4)[[0, 3]]])),
    ):
        outputs = Logits(torch.from_numpy(logits).float())
        loss = classification_loss(outputs, truth, label_smoothing=smoothing)
        assert loss["total"].item() == pytest.approx(by_hand(logits, targets, smoothing), abs=1e-5)
