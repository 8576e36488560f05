"""What a look at data finds, and how counts and names are written in it."""

from __future__ import annotations

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
