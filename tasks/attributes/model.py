"""A backbone with a logit for each attribute, and the decoding of its logits."""

from __future__ import annotations

from torch import Tensor

from datasets.types import Attributes
from tasks.common.model.logits import Logits, LogitsModel


class AttributeNet(LogitsModel):
    """A backbone and a linear head with one logit per attribute."""


def attribute_probabilities(outputs: Logits, positive_weights: Tensor) -> Tensor:
    """The attributes' probabilities (N, K), corrected for the weights of the loss.

        p = sigmoid(logit - log w)

    since a loss with positive weight w has its minimum at logit = log w + log(p / (1 - p)).

    Args:
        outputs: logits of N images.
        positive_weights: w (K,), of the training loss.
    """
    return (outputs.logits - positive_weights.log().to(outputs.logits.device)).sigmoid()


def decode_attributes(probabilities: Tensor) -> list[Attributes]:
    """The attributes of each image, from (N, K) probabilities."""
    return [Attributes(row) for row in probabilities.cpu().numpy()]
