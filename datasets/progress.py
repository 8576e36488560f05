"""Progress display: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

LINE_INTERVAL_S = 30.0


class Progress:
    """A progress bar with time left; without a terminal, a line every 30 seconds."""

    def __init__(self, title: str, total: int, *, done: int = 0, silent: bool = False) -> None:
        """Args: title: shown in front; total: number of units; done: units done already; silent: show nothing."""
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
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
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
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= LINE_INTERVAL_S:
            self._last_line = now
            seconds_per_unit = (now - self._started) / max(1, self._done - self._done_at_start)
            left_s = (self._total - self._done) * seconds_per_unit
            self.print(f"{self._title} {self._done}/{self._total}, {left_s:.0f} s left  {self._text}")

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)
