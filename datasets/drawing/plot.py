"""Plots with matplotlib: figures, axes, legends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets.files import atomic_write

X_AXIS_INCHES = 0.45  # height of its tick labels and title


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


def add_legend_below(parent: Any, num_columns: int, **options: Any) -> None:
    """Add a legend below the x-axis title of an axes, or below all axes of a figure, where it hides no data.

    Args:
        parent: axes or figure.
        num_columns: of the legend.
        options: keyword arguments of matplotlib's `legend`.
    """
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    options |= {"ncols": num_columns, "columnspacing": 1.2, "fontsize": 8, "title_fontsize": 8, "frameon": False}
    if isinstance(parent, Figure):
        parent.legend(loc="outside lower center", **options)
    else:
        below_title = parent.transAxes + ScaledTranslation(0, -X_AXIS_INCHES, parent.figure.dpi_scale_trans)
        parent.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below_title, **options)


def label_point(axes: Any, text: str, point: tuple[float, float], offset: tuple[int, int], colour: str) -> None:
    """Write a small text, legible on lines, beside a point.

    Args:
        axes: with the point.
        text: short.
        point: in data coordinates.
        offset: of the text to the right (0: centred) and upwards, in points.
        colour: of the text.
    """
    from matplotlib.patheffects import withStroke

    x, y = offset
    aligned = {"ha": "left" if x > 0 else "right" if x < 0 else "center", "va": "bottom" if y > 0 else "top"}
    outline = [withStroke(linewidth=3, foreground="white")]
    axes.annotate(
        text, point, offset, textcoords="offset points", fontsize=8, color=colour, path_effects=outline, **aligned
    )


def format_log_axis(axis: Any) -> None:
    """Tick a logarithmic axis with plain numbers, a few for each power of ten in its range."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    subs = (1, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
