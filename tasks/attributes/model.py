"""A backbone with an output for each attribute, and what its raw outputs mean."""

from __future__ import annotations

from torch import Tensor

from datasets.types import Attributes
from tasks.common.model.logits import Logits, LogitsModel


class AttributeNet(LogitsModel):
    """Pooled features to a logit for each attribute."""


def attribute_probabilities(outputs: Logits, positive_weights: Tensor) -> Tensor:
    """How probable each attribute is, (N, K).

        p = sigmoid(logit - log w)

    since a loss that counts positives w times over is at its least where logit = log w + log(p / (1 - p)).

    Args:
        outputs: of N images.
        positive_weights: w (K,), of the loss that was minimised.
    """
    return (outputs.logits - positive_weights.log().to(outputs.logits.device)).sigmoid()


def decode_attributes(probabilities: Tensor) -> list[Attributes]:
    """The attributes of each image, from (N, K) probabilities."""
    return [Attributes(row) for row in probabilities.cpu().numpy()]
