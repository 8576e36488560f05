"""Plots with matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets.files import atomic_write


@contextmanager
def new_plot(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure of that size in inches, saved at 100 dpi when the block ends without an error."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


def format_log_axis(axis: Any) -> None:
    """Tick a logarithmic axis at 1, 2 and 5 of each power of ten, with plain numbers."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
