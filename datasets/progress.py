"""Progress display: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import rich.progress
from rich.console import Console

T = TypeVar("T")
LINE_INTERVAL_S = 30.0
TRACK_DELAY_S, TRACK_STEP = 1.0, 100


class Progress:
    """A progress bar with time left; without a terminal, a line every 30 seconds."""

    def __init__(self, title: str, total: int, *, done: int = 0, silent: bool = False, delay_s: float = 0) -> None:
        """Begin at no progress.

        Args:
            title: shown in front.
            total: number of units.
            done: units done already.
            silent: show nothing.
            delay_s: time after which the bar appears.
        """
        self._stdout = sys.stdout
        self.console = Console(stderr=True, quiet=silent)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total, completed=done, text="")
        self._title, self._total, self._text = title, total, ""
        self._done = self._done_at_start = done
        self._delay_s = delay_s
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._start_when_due()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def describe(self, text: str) -> None:
        """Set the text behind the bar."""
        self._text = text

    def advance(self, units: int = 1) -> None:
        """Add completed units."""
        self._done += units
        self._bar.update(self._task, advance=units, text=self._text)
        self._start_when_due()
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= LINE_INTERVAL_S:
            self._last_line = now
            seconds_per_unit = (now - self._started) / max(1, self._done - self._done_at_start)
            left_s = (self._total - self._done) * seconds_per_unit
            self.print(f"{self._title} {self._done}/{self._total}, {left_s:.0f} s left  {self._text}")

    def write(self, line: str) -> None:
        """Write a line to standard output; above the bar if both are on a terminal."""
        if self.console.is_terminal and self._stdout.isatty():
            self.print(line)
        else:
            print(line, file=self._stdout, flush=True)  # while the bar is shown, rich sends sys.stdout to its console

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _start_when_due(self) -> None:
        if time.monotonic() - self._started >= self._delay_s:
            self._bar.start()  # no-op if it has started


def track(values: Iterable[T], title: str, total: int) -> Iterator[T]:
    """The values, with a bar once that takes longer than a second; so short work shows none."""
    with Progress(title, total, delay_s=TRACK_DELAY_S) as progress:
        for count, value in enumerate(values, 1):
            yield value
            if count % TRACK_STEP == 0:
                progress.advance(TRACK_STEP)
