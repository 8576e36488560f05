"""Look at images of more than 8 bits: whether they are read nearly black, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datasets.images.read import AS_STORED, UnreadableImageError, value_range_of
from datasets.look.finding import Finding, Severity
from datasets.stores import ImageStore
from datasets.subsample import evenly_spread

NUM_OPENED = 8  # in full, evenly spread
DARK_FRACTION = 1 / 4  # of the range of a type: 14 bits in a file of 16, as cameras have, and fewer


def look_at_depth(
    images: Sequence[tuple[ImageStore, int]], *, fraction: float, max_unreadable_fraction: float
) -> Iterator[Finding]:
    """What is to be said about images that are scaled to 8 bits by the range of their type.

    Args:
        images: of more than 8 bits, one or more: their stores and rows.
        fraction: of the images of the data that these are.
        max_unreadable_fraction: above which a training would stop.
    """
    ranges, faults = [], []
    for index in evenly_spread(len(images), NUM_OPENED).tolist():
        store, row = images[index]
        try:
            store.read(row, AS_STORED)
            ranges.append(value_range_of(store.data(row), store.id(row)))
        except UnreadableImageError as error:
            faults.append(str(error))
    num_opened = len(ranges) + len(faults)
    if faults:
        is_too_many = fraction * len(faults) / num_opened > max_unreadable_fraction
        severity: Severity = "error" if is_too_many else "warning"
        count = f"{len(faults)} of {num_opened} images of more than 8 bits that were opened"
        yield Finding(severity, f"{count} cannot be read; the first: {faults[0]}")
    whole = [found for found in ranges if not found.is_float]
    high = max((found.high for found in whole), default=0)
    limit = max((found.type_max for found in whole), default=0)
    if 0 < high < DARK_FRACTION * limit:
        black, white = min(0, *(found.low for found in whole)), (1 << int(high).bit_length()) - 1
        yield Finding(
            "warning",
            f"the images of more than 8 bits are read nearly black: in {len(whole)} that were opened the largest value "
            f"is {high:g} of {limit:g}; --data.pixel_range [{black:g},{white}] sets the values of black and white",
        )
