"""A backbone with an output for each attribute, and what its raw outputs mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone import Classifier
from datasets.types import Attributes


class AttributeOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (N, K).
    """

    logits: Tensor


class AttributeNet(Classifier):
    """Pooled features to a logit for each attribute."""

    def forward(self, images: Tensor) -> AttributeOutputs:  # type: ignore[override]  # a NamedTuple, as in all tasks
        """uint8 RGB (N, 3, S, S) -> logits of K attributes."""
        return self.from_features(self.backbone(images))

    def from_features(self, features: Tensor) -> AttributeOutputs:
        """Pooled features (N, num_features) -> logits of K attributes."""
        return AttributeOutputs(self.head(features))


def decode_attributes(outputs: AttributeOutputs, positive_weights: NDArray[np.float32]) -> list[Attributes]:
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
