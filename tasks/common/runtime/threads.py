"""How many threads a network may use on the CPU."""

from __future__ import annotations

import os
import sys
from functools import cache


def num_cores() -> int:
    """Of this machine."""
    return os.cpu_count() or 1


@cache  # which says it once
def usable_threads(num_threads: int | None) -> int | None:
    """The setting `loop.num_threads`, or this machine's cores where these are fewer, as said on standard error.

    More threads than cores wait for each other: of a small network a call takes seconds with 64 threads on two cores,
    and with a hundred thousand it does not end.
    """
    if num_threads is None or num_threads <= num_cores():
        return num_threads
    print(f"loop.num_threads: this machine has {num_cores()} cores; using them, not {num_threads}", file=sys.stderr)
    return num_cores()
