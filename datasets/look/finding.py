"""What a look at data finds, and how counts and names are written in it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Finding(NamedTuple):
    """Something about a data set that its user should know.

    Attributes:
        severity: error: training would be worthless, and does not start; warning: something is probably wrong; note:
            something to know.
        text: a line, without a full stop.
    """

    severity: Severity
    text: str


def ratio(count: int, total: int, noun: str) -> str:
    """Such as "12 of 1,280 boxes"."""
    return f"{count:,} of {total:,} {noun}"


def selected(mask: NDArray[np.bool_], noun: str) -> str:
    """Such as "12 of 1,280 boxes", for the selected ones."""
    return ratio(int(mask.sum()), len(mask), noun)


def too_many(line: str, num_found: int, num_seen: int, max_fraction: float) -> Finding:
    """Examples that cannot be used: left out in training, or an error if they are too many, as in training.

    Args:
        line: which ones, and why.
        num_found: their number.
        num_seen: of all that were looked at.
        max_fraction: `loop.max_unreadable_fraction`.
    """
    fraction = num_found / num_seen
    if fraction <= max_fraction and num_found < num_seen:
        return Finding("warning", f"{line}; they are left out")
    above = f"{min(1.0, math.ceil(fraction * 100) / 100):g}"
    allow = "" if num_found == num_seen else f", or allow it: --loop.max_unreadable_fraction {above}"
    return Finding("error", f"{line}; mend them or take them out of the data{allow}")
