"""Plots with matplotlib: figures, axes, training curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def draw_curves(history: Sequence[Mapping[str, Any]], score_name: str, path: Path) -> None:
    """Plot the losses, the score and the learning rate over epochs."""
    with new_plot(path, 12, 3.5) as figure:
        losses, scores, rates = figure.subplots(1, 3)
        for key in filter(lambda key: key.startswith("loss"), history[0]):
            losses.plot([row["epoch"] for row in history], [row[key] for row in history], label=key)
        losses.set(title="training loss", xlabel="epoch", ylim=(0, None))
        losses.legend()
        scored = [row for row in history if score_name in row]
        for key in filter(lambda key: key.startswith(score_name), history[-1]):  # the last epoch is evaluated
            scores.plot([row["epoch"] for row in scored], [row[key] for row in scored], marker=".", label=key)
        scores.set(title="validation", xlabel="epoch", ylim=(0, 1))
        scores.legend()
        rates.plot([row["epoch"] for row in history], [row["lr"] for row in history])
        rates.set(title="learning rate", xlabel="epoch", ylim=(0, None))
        for axes in (losses, scores, rates):
            axes.grid(alpha=0.3)
