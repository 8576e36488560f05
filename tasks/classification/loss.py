"""Cross-entropy with hard or mixed labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Example, Label
from tasks.common.model.logits import Logits


class ClassTargets(NamedTuple):
    """Targets of N images.

    Attributes:
        classes: int64 (N,) class ids; for mixed images float32 (N, K) probabilities that sum to 1.
    """

    classes: Tensor


def class_targets(examples: Sequence[Example[Label]]) -> ClassTargets:
    """The targets of a batch, whose labels are either all hard or all mixed."""
    probabilities = [p for example in examples if (p := example.truth.probabilities) is not None]
    if probabilities:
        assert len(probabilities) == len(examples)
        return ClassTargets(torch.from_numpy(np.stack(probabilities)))
    return ClassTargets(torch.tensor([example.truth.class_id for example in examples]))


def classification_loss(outputs: Logits, targets: ClassTargets, *, label_smoothing: float) -> dict[str, Tensor]:
    """The mean cross-entropy.

        total = - mean over images of sum_k q_k log softmax(logits)_k,   q = (1 - s) p + s / K

    Args:
        outputs: logits of N images.
        targets: class probabilities p, one-hot for hard labels.
        label_smoothing: s.

    Returns:
        The scalar `total`.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7 (label smoothing).
    """
    return {"total": functional.cross_entropy(outputs.logits, targets.classes, label_smoothing=label_smoothing)}
