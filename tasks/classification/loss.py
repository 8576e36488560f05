"""Cross-entropy with certain or mixed labels."""

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
    """What is true of N images.

    Attributes:
        classes: int64 (N,) class ids; or float32 (N, K) probabilities, which sum to 1, where images are mixed.
    """

    classes: Tensor


def class_targets(examples: Sequence[Example[Label]]) -> ClassTargets:
    """The labels of a batch, either all certain or all mixed."""
    probabilities = [p for example in examples if (p := example.truth.probabilities) is not None]
    if probabilities:
        assert len(probabilities) == len(examples)
        return ClassTargets(torch.from_numpy(np.stack(probabilities)))
    return ClassTargets(torch.tensor([example.truth.class_id for example in examples]))


def classification_loss(outputs: Logits, targets: ClassTargets, *, label_smoothing: float) -> dict[str, Tensor]:
    """The mean cross-entropy.

        total = - mean over images of sum_k q_k log softmax(logits)_k,   q = (1 - s) p + s / K

    Args:
        outputs: of N images.
        targets: their probabilities p, one-hot where labels are certain.
        label_smoothing: s.

    Returns:
        The scalar `total`.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7, for the smoothing.
    """
    return {"total": functional.cross_entropy(outputs.logits, targets.classes, label_smoothing=label_smoothing)}
