"""A backbone with a linear head on its pooled features: the network of the tasks whose outputs are logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from backbone.base import Classifier, global_average_pool


class Logits(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (N, K), one for each output.
    """

    logits: Tensor


class LogitsModel(Classifier):
    """Table 1 of the paper with any number of outputs."""

    def forward(self, images: Tensor) -> Logits:  # type: ignore[override]  # a NamedTuple, as in all tasks
        """uint8 RGB (N, 3, S, S) -> logits (N, K)."""
        return self.from_features(self.backbone(images))

    def from_feature_maps(self, maps: Mapping[int, Tensor]) -> Logits:
        """The backbone's maps by stride -> K logits each."""
        return self.from_features(global_average_pool(maps))

    def from_features(self, features: Tensor) -> Logits:
        """Pooled features (N, num_features) -> logits (N, K)."""
        return Logits(self.head(features))
