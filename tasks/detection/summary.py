"""What a detector has found, in a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from datasets.types import Detections

MAX_CLASSES, MAX_SCORES = 6, 5  # in a line; scores of each class


def summarize_detections(found: Detections, class_names: Sequence[str], threshold: float) -> str:
    """Such as "2 x dog 0.93 0.88, bicycle 0.71": the classes by their best score, and the scores of each.

    Names are not put in the plural, since they are of any language, and some are no nouns.

    Args:
        found: the boxes with a score of at least the threshold.
        class_names: by class id.
        threshold: of the scores.
    """
    assert found.scores is not None
    if not len(found):
        return f"nothing found with a score of {threshold:g} or more"
    scores_of: defaultdict[int, list[float]] = defaultdict(list)
    for row in np.argsort(-found.scores, kind="stable"):
        scores_of[int(found.class_ids[row])].append(float(found.scores[row]))
    named = list(scores_of.items())[:MAX_CLASSES]
    parts = [_describe_class(class_names[class_id], scores) for class_id, scores in named]
    num_left_out = len(found) - sum(len(scores) for _, scores in named)
    return ", ".join(parts) + (f" and {num_left_out:,} more" if num_left_out else "")


def _describe_class(name: str, scores: Sequence[float]) -> str:
    count = f"{len(scores):,} x " if len(scores) > 1 else ""
    more = " ..." if len(scores) > MAX_SCORES else ""
    return f"{count}{name} {' '.join(f'{score:.2f}' for score in scores[:MAX_SCORES])}{more}"
