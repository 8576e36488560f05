"""A backbone with a classifier, and what its raw outputs mean."""

from __future__ import annotations

from datasets.types import Label
from tasks.common.model.logits import Logits, LogitsModel


class ClassificationModel(LogitsModel):
    """Table 1 of the paper, for any number of classes."""


def decode_labels(outputs: Logits) -> list[Label]:
    """The most probable class of each image, and the probabilities of all."""
    probabilities = outputs.logits.softmax(1).cpu().numpy()
    return [Label(int(row.argmax()), row) for row in probabilities]
