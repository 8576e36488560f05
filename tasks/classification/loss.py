"""Cross-entropy with certain or mixed labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Label
from tasks.common.logits import Logits


def classification_loss(outputs: Logits, truth: Sequence[Label], *, label_smoothing: float) -> dict[str, Tensor]:
    """The mean cross-entropy.

        total = - mean over images of sum_k q_k log softmax(logits)_k,   q = (1 - s) p + s / K

    Args:
        outputs: of N images.
        truth: N labels, whose probabilities p are one-hot where none are given.
        label_smoothing: s.

    Returns:
        The scalar `total`.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7, for the smoothing.
    """
    device = outputs.logits.device
    if all(label.probabilities is None for label in truth):
        targets = torch.tensor([label.class_id for label in truth], device=device)
    else:
        targets = torch.from_numpy(np.stack([_probabilities(label, outputs.logits.shape[1]) for label in truth]))
        targets = targets.to(device)
    return {"total": functional.cross_entropy(outputs.logits, targets, label_smoothing=label_smoothing)}


def _probabilities(label: Label, num_classes: int) -> np.ndarray:
    if label.probabilities is not None:
        return label.probabilities
    certain = np.zeros(num_classes, np.float32)
    certain[label.class_id] = 1
    return certain
