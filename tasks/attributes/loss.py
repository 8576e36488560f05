"""Binary cross-entropy with positive weights for rare attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Attributes, Example
from tasks.common.model.logits import Logits

MIN_PREVALENCE = 1e-3  # keeps the weight of an attribute without positives finite


class AttributeTargets(NamedTuple):
    """Targets of N images.

    Attributes:
        values: float32 (N, K) in [0, 1], one column per attribute.
    """

    values: Tensor


def attribute_targets(examples: Sequence[Example[Attributes]]) -> AttributeTargets:
    """The targets of a batch."""
    return AttributeTargets(torch.from_numpy(np.stack([example.truth.values for example in examples])))


def attribute_loss(outputs: Logits, targets: AttributeTargets, positive_weights: Tensor) -> dict[str, Tensor]:
    """The mean binary cross-entropy over images and attributes.

        total = - mean of  w t log sigmoid(logit) + (1 - t) log(1 - sigmoid(logit))

    Args:
        outputs: logits of N images.
        targets: values t, hard labels or a teacher's probabilities.
        positive_weights: w (K,), on the same device.

    Returns:
        The scalar `total`.
    """
    total = functional.binary_cross_entropy_with_logits(outputs.logits, targets.values, pos_weight=positive_weights)
    return {"total": total}


def positive_weights(prevalence: Sequence[float], exponent: float) -> Tensor:
    """The loss weights of positive examples: ((1 - p) / p)^exponent.

    Args:
        prevalence: p (K,), the fraction of training images with each attribute.
        exponent: in [0, 1].
    """
    p = np.clip(np.asarray(prevalence), MIN_PREVALENCE, 1 - MIN_PREVALENCE)
    return torch.from_numpy((((1 - p) / p) ** exponent).astype(np.float32))
