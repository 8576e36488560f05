"""What all commands have in common: exit statuses, errors and warnings as single lines, near misses of names."""

from __future__ import annotations

import difflib
import io
import os
import re
import select
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

_LOADER_ENDED = (
    "a process that reads images was ended, as the system does when memory is short; try fewer of them "
    "(--loop.num_workers). What was saved is intact, and a training goes on with --resume"
)


def exit_status(run: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    Returns:
        What the command returns; with a line on stderr, 1 after an error in the data, or if a loader process was
        ended, and 130 when interrupted; 1 without a word when the reader of its output is gone, as after `| head` (as
        Python and rich do).
    """
    warnings.showwarning = _WarningPrinter()  # type: ignore[assignment]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as for sys.stderr: not every file name can be encoded
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()  # here, where a reader that is gone is noticed in time
    except (ValueError, OSError) as error:
        if not (isinstance(error, BrokenPipeError) and _is_unread()):
            print(f"error: {_one_line(_without_traceback(str(error)))}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        print(f"error: {_one_line(error)}: {_LOADER_ENDED}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _is_unread() -> bool:
    """Whether the reader of stdout is gone; what is left to print is dropped then."""
    stdout = sys.stdout.fileno()
    poll = select.poll()
    poll.register(stdout, select.POLLOUT)
    if not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


def _without_traceback(message: str) -> str:
    """What the error of a loader process said, which torch passes on with its traceback as the message."""
    match = re.match(r"Caught (\w+) in DataLoader worker process .*\n(?:\S+\.)?\1: (.*)", message, re.DOTALL)
    return message if match is None else match[2].strip()


def _one_line(message: object) -> str:
    """A message in one line, also where a file or class has a line break in its name."""
    return str(message).replace("\n", "\\n").replace("\r", "\\r")


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """A hint at the name that is nearest to a word, to follow an error; empty if none is near."""
    near = difflib.get_close_matches(word, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class _WarningPrinter:
    """Prints each of our warnings as a line on stderr, once in a command: other packages reset Python's own count.

    One that comes again after 10,000 others is printed again: there may be one for each image of millions.
    """

    def __init__(self) -> None:
        self._print_once = lru_cache(10_000)(lambda line: print(line, file=sys.stderr))

    def __call__(self, message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, UserWarning):
            self._print_once(f"warning: {_one_line(message)}")
