"""A backbone with an output for each attribute, and what its raw outputs mean."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.types import Attributes
from tasks.common.logits import Logits, LogitsModel


class AttributeNet(LogitsModel):
    """Pooled features to a logit for each attribute."""


def decode_attributes(outputs: Logits, positive_weights: NDArray[np.float32]) -> list[Attributes]:
    """How probable each attribute is.

        value = sigmoid(logit - log w)

    since a loss that counts positives w times over is at its least where logit = log w + log(p / (1 - p)).

    Args:
        outputs: of N images.
        positive_weights: w (K,), of the loss that was minimised.
    """
    shift = torch.from_numpy(positive_weights).log().to(outputs.logits.device)
    values = (outputs.logits - shift).sigmoid().cpu().numpy()
    return [Attributes(row) for row in values]
