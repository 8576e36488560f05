"""Plots as files: what all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets.files import atomic_write


@contextmanager
def new_plot(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure, in inches, that becomes a file of 100 pixels an inch if the block ends well."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


def format_log_axis(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each power of ten of an axis that has a logarithmic scale."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
