"""Look at masks: the classes of their pixels, and which masks cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from datasets.look.finding import Finding, ratio, too_many
from datasets.look.labelled import look_at_classes
from datasets.segmentation.masked import MaskedImages
from datasets.types import Split

MAX_MASKS = 2_000  # of a split, which are read in seconds unless they are large


def look_at_masks(sources: Mapping[Split, MaskedImages], *, max_unreadable_fraction: float) -> Iterator[Finding]:
    """What is to be said about the masks of a data set, unless they are too many to read.

    Args:
        sources: by split.
        max_unreadable_fraction: of the images of a split, above which a training would stop.
    """
    largest = max(map(len, sources.values()))
    if largest > MAX_MASKS:
        yield Finding("note", f"masks were not looked at: a split has {largest:,}, more than {MAX_MASKS:,}")
        return
    yield from look_at_classes(sources)
    for split, source in sources.items():
        rows = np.flatnonzero(source.pixel_counts.sum(1) == 0).tolist()
        faults = [fault for row in rows if (fault := source.fault(row)).startswith(source.masks.id(row))]
        if faults:
            line = f"{ratio(len(faults), len(source), f'masks of {split}')} cannot be used; the first: {faults[0]}"
            yield too_many(line, len(faults), len(source), max_unreadable_fraction)
