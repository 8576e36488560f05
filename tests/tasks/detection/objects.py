"""Random objects and the targets made of them."""

from collections.abc import Sequence

import numpy as np

from datasets.types import Detections
from tasks.detection.matching import DetectionTargets, detection_targets
from tests.tasks.laws import as_examples

NUM_CLASSES = 4
NO_OBJECTS = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (96, 96))


def random_truth(rng: np.random.Generator, *counts: int) -> list[Detections]:
    """The given number of objects in each image of 96 px, 5 to 36 px large."""
    truth = []
    for count in counts:
        low = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(5, 36, (count, 2))], 1).astype(np.float32)
        truth.append(Detections(boxes, rng.integers(0, NUM_CLASSES, count), (96, 96)))
    return truth


def targets_of(truth: Sequence[Detections], seeds: Sequence[int] | None = None) -> DetectionTargets:
    """The targets that a loss takes."""
    return detection_targets(as_examples(truth, seeds))
