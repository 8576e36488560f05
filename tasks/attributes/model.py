"""A backbone with a logit for each attribute, and the decoding of its logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from backbone.base import Backbone
from datasets.types import Attributes
from tasks.common.model.logits import Logits, LogitsModel

NUM_HIDDEN, NUM_AGES = 256, 100  # as in the published face network
# Attributes that are groups of ages: the first age and the one after the last, in years.
AGE_GROUPS = {
    "Child": (0, 10),
    "Teenager": (10, 20),
    "Young_Adult": (20, 40),
    "Middle_Aged": (40, 60),
    "Senior": (60, NUM_AGES),
}


class AttributeNet(LogitsModel):
    """A backbone and a head with one logit per attribute, which is linear by default."""

    def __init__(self, backbone: Backbone, attribute_names: Sequence[str], *, has_ages: bool = False) -> None:
        """Args: backbone: feature extractor; attribute_names: by column; has_ages: use an `AgeHead`."""
        super().__init__(backbone, len(attribute_names))
        if has_ages:
            self.head = AgeHead(backbone.num_features, attribute_names)


class AgeHead(nn.Module):
    """A hidden layer; on it a softmax over the ages 0 to 99, and a logit for each attribute that is no age group.

    An age group has the logit of the sum of its ages' probabilities, so that its sigmoid is that sum:

        logit = log sum_inside exp(age logits) - log sum_outside exp(age logits)
    """

    is_inside: Tensor

    def __init__(self, num_features: int, attribute_names: Sequence[str]) -> None:
        """Args: num_features: of the backbone; attribute_names: by column; those in `AGE_GROUPS` are age groups."""
        super().__init__()
        others = other_names(attribute_names)
        group_names = [name for name in attribute_names if name in AGE_GROUPS]
        self._columns = [(*others, *group_names).index(name) for name in attribute_names]
        self.hidden = nn.Linear(num_features, NUM_HIDDEN)
        if group_names:
            self.ages = nn.Linear(NUM_HIDDEN, NUM_AGES)
        self._has_others = bool(others)
        if others:
            self.others = nn.Linear(NUM_HIDDEN, len(others))
        ages = torch.arange(NUM_AGES)
        inside = [(ages >= first) & (ages < end) for first, end in map(AGE_GROUPS.__getitem__, group_names)]
        self.register_buffer("is_inside", torch.stack(inside) if inside else torch.zeros(0, NUM_AGES), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Pooled features (N, num_features) -> logits (N, K)."""
        hidden = self.hidden(features).relu()
        parts = [self.others(hidden)] if self._has_others else []
        if len(self.is_inside):
            ages = self.ages(hidden)[:, None]  # (N, 1, NUM_AGES)
            outside, inside = (
                ages.masked_fill(mask, -torch.inf).logsumexp(2) for mask in (self.is_inside, ~self.is_inside)
            )
            parts.append(inside - outside)
        return torch.cat(parts, 1)[:, self._columns]


def other_names(attribute_names: Sequence[str]) -> list[str]:
    """The attributes that are no age groups, in the same order."""
    return [name for name in attribute_names if name not in AGE_GROUPS]


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
