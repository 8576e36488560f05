"""Binary cross-entropy in which rare attributes weigh more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datasets.types import Attributes
from tasks.common.logits import Logits

NEVER_RARER_THAN = 1e-3  # so that an attribute which no training image has does not weigh infinitely


def attribute_loss(
    outputs: Logits, truth: Sequence[Attributes], positive_weights: NDArray[np.float32]
) -> dict[str, Tensor]:
    """The mean binary cross-entropy over images and attributes.

        total = - mean of  w t log sigmoid(logit) + (1 - t) log(1 - sigmoid(logit))

    Args:
        outputs: of N images.
        truth: N values t, certain ones or a teacher's probabilities.
        positive_weights: w (K,).

    Returns:
        The scalar `total`.
    """
    device = outputs.logits.device
    targets = torch.from_numpy(np.stack([attributes.values for attributes in truth])).to(device)
    weights = torch.from_numpy(positive_weights).to(device)
    return {"total": functional.binary_cross_entropy_with_logits(outputs.logits, targets, pos_weight=weights)}


def positive_weights(prevalence: Sequence[float], balance: float) -> NDArray[np.float32]:
    """How much more each attribute weighs where it is there: ((1 - p) / p)^balance.

    Args:
        prevalence: p (K,), the attribute's share of the training images.
        balance: in [0, 1].
    """
    p = np.clip(np.asarray(prevalence), NEVER_RARER_THAN, 1 - NEVER_RARER_THAN)
    weights: NDArray[np.float32] = (((1 - p) / p) ** balance).astype(np.float32)
    return weights
