"""A backbone with a classifier, and the decoding of its logits."""

from __future__ import annotations

from datasets.types import Label
from tasks.common.model.logits import Logits, LogitsModel


class ClassificationModel(LogitsModel):
    """The network of Table 1 with any number of classes."""


def decode_labels(outputs: Logits) -> list[Label]:
    """The predicted class of each image, with all class probabilities."""
    probabilities = outputs.logits.softmax(1).cpu().numpy()
    return [Label(int(row.argmax()), row) for row in probabilities]
