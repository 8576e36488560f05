"""Keep freed memory in the process, because asking the kernel for it again is what costs.

By default glibc returns every large block at once and gets zeroed pages anew for the next one. A training step frees
and allocates the same blocks over and over: on two cores, training SSD300 was 1.8 times as fast with the blocks kept
(`python -m tasks.detection.throughput`; 1.3 times in another run).
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> None:
    """Tell glibc to serve large blocks from its heap and never to shrink it; elsewhere do nothing."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)
