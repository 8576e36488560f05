"""Available memory, a pause of the garbage collector, and glibc settings that keep freed memory in the process.

By default glibc returns every large block to the kernel when it is freed and gets new zeroed pages for the next one,
which is slow. A training step frees and allocates the same blocks over and over: on two cores, training SSD300 was 1.8
times as fast with the blocks kept (`python -m results bench training`; 1.3 times in another run).
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> None:
    """Set glibc to allocate large blocks on its heap and never to shrink it; a no-op elsewhere."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)


@contextmanager
def paused_gc() -> Iterator[None]:
    """No garbage collection in the block: it slows the reading of a large JSON file, which has no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def available_bytes() -> int | None:
    """Memory available without swapping, including the page cache; None if unknown."""
    text = MEMINFO.read_text(encoding="ascii") if MEMINFO.is_file() else ""
    found = re.search(r"^MemAvailable: *(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else None
