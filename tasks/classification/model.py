"""A backbone with a classifier, and what its raw outputs mean."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from backbone import Classifier
from datasets.types import Label


class ClassificationOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (N, K).
    """

    logits: Tensor


class ClassificationModel(Classifier):
    """Table 1 of the paper, for any number of classes."""

    def forward(self, images: Tensor) -> ClassificationOutputs:  # type: ignore[override]  # a NamedTuple, as in all tasks
        """uint8 RGB (N, 3, S, S) -> logits of K classes."""
        return self.from_features(self.backbone(images))

    def from_features(self, features: Tensor) -> ClassificationOutputs:
        """Pooled features (N, num_features) -> logits of K classes."""
        return ClassificationOutputs(self.head(features))


def decode_labels(outputs: ClassificationOutputs) -> list[Label]:
    """The most probable class of each image, and the probabilities of all."""
    probabilities = outputs.logits.softmax(1).cpu().numpy()
    return [Label(int(row.argmax()), row) for row in probabilities]
