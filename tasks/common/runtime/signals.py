"""SIGTERM and Ctrl-C: recorded, so that a run can save a checkpoint before it stops."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130  # exit status, as in a shell after Ctrl-C


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list of the signals received so far (SIGTERM, SIGINT); a second Ctrl-C stops at once."""
    received: list[int] = []

    def handler(signum: int, _frame: Any) -> None:
        if received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signum)

    previous = {signum: signal.signal(signum, handler) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for signum, old_handler in previous.items():
            signal.signal(signum, old_handler)
