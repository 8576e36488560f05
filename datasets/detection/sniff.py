"""Look into a few files, evenly spread, to tell an annotation format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from datasets.subsample import evenly_spread

NUM_SNIFFED = 20


def sniffed(names: Sequence[str]) -> list[str]:
    """The files to look into."""
    return [names[row] for row in evenly_spread(len(names), NUM_SNIFFED)]


def has_pattern(root: Path, names: Sequence[str], pattern: re.Pattern[bytes], num_bytes: int) -> bool:
    """Whether the beginning or the end of one of the files that are looked into has a pattern."""
    return any(pattern.search(read_ends(root / name, num_bytes)) for name in sniffed(names))


def read_ends(file: Path, num_bytes: int) -> bytes:
    """The first and the last bytes of a file; none if it cannot be read."""
    try:
        with file.open("rb") as stream:
            start = stream.read(num_bytes)
            stream.seek(max(0, file.stat().st_size - num_bytes))
            return start + stream.read(num_bytes)
    except OSError:
        return b""
