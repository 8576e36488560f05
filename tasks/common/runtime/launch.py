"""The place of this process among those of one command, as `torchrun` and clusters say; imports no torch."""

from __future__ import annotations

import os


def process_rank() -> tuple[int, int]:
    """The rank of this process, from 0, and the number of processes, by the variables RANK and WORLD_SIZE.

    Raises:
        ValueError: if they are no such numbers.
    """
    rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise ValueError(
            f"the environment has RANK={rank} and WORLD_SIZE={size}; expected WORLD_SIZE processes with ranks from 0"
        )
    return int(rank), int(size)
