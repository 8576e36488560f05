"""Look at persons: whether pairs of photos can be learned from and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from datasets.faces import FaceImages
from datasets.look.finding import Finding, Severity
from datasets.types import Split
from datasets.words import plural


def look_at_identities(sources: Mapping[Split, FaceImages]) -> Iterator[Finding]:
    """What is to be said about the persons of a data set."""
    for split, source in sources.items():
        counts = np.bincount(source.identity_ids, minlength=len(source.identities))
        num_persons, num_paired = len(counts), int((counts > 1).sum())
        needed = 2 if split == "train" else 1  # persons with two photos
        if num_persons < 2 or num_paired < needed:
            lacking = {
                "train": "nothing can be learned: that needs two persons with two photos each",
                "val": "nothing can be scored: that needs two persons, and two photos of one of them",
                "test": "nothing can be scored: that needs two persons, and two photos of one of them",
            }[split]
            severity: Severity = "warning" if split == "test" else "error"
            yield Finding(
                severity, f"{split}: {plural(num_persons, 'person')}, {num_paired} of them with two photos; {lacking}"
            )
