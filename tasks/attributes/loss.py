"""Binary cross-entropy in which rare attributes weigh more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Attributes, Example
from tasks.common.model.logits import Logits

NEVER_RARER_THAN = 1e-3  # so that an attribute which no training image has does not weigh infinitely


class AttributeTargets(NamedTuple):
    """What is true of N images.

    Attributes:
        values: float32 (N, K) in [0, 1], of each attribute.
    """

    values: Tensor


def attribute_targets(examples: Sequence[Example[Attributes]]) -> AttributeTargets:
    """The attributes of a batch."""
    return AttributeTargets(torch.from_numpy(np.stack([example.truth.values for example in examples])))


def attribute_loss(outputs: Logits, targets: AttributeTargets, positive_weights: Tensor) -> dict[str, Tensor]:
    """The mean binary cross-entropy over images and attributes.

        total = - mean of  w t log sigmoid(logit) + (1 - t) log(1 - sigmoid(logit))

    Args:
        outputs: of N images.
        targets: N values t, certain ones or a teacher's probabilities.
        positive_weights: w (K,), on the same device.

    Returns:
        The scalar `total`.
    """
    total = functional.binary_cross_entropy_with_logits(outputs.logits, targets.values, pos_weight=positive_weights)
    return {"total": total}


def positive_weights(prevalence: Sequence[float], balance: float) -> Tensor:
    """How much more each attribute weighs where it is there: ((1 - p) / p)^balance.

    Args:
        prevalence: p (K,), the attribute's share of the training images.
        balance: in [0, 1].
    """
    p = np.clip(np.asarray(prevalence), NEVER_RARER_THAN, 1 - NEVER_RARER_THAN)
    return torch.from_numpy((((1 - p) / p) ** balance).astype(np.float32))
