"""Plots with matplotlib: figures, axes, training curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
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


def score_title(score_name: str) -> str:
    """The title of an axis with a score on the validation images."""
    return f"{score_name} on validation images"


def format_log_axis(axis: Any) -> None:
    """Tick a logarithmic axis with plain numbers, a few for each power of ten in its range."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    subs = (1, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def draw_curves(history: Sequence[Mapping[str, Any]], score_name: str, path: Path) -> None:
    """Plot the losses, the score with its best epoch, and the learning rate over epochs."""
    with new_plot(path, 12, 4) as figure:
        losses, scores, rates = figure.subplots(1, 3)
        for key in filter(lambda key: key.startswith("loss"), history[0]):
            losses.plot([row["epoch"] for row in history], [row[key] for row in history], label=key)
        losses.set(title="training loss", xlabel="epoch", ylim=(0, None))
        add_legend_below(losses, 3)
        scored = [row for row in history if score_name in row]
        for key in filter(lambda key: key.startswith(score_name), history[-1]):  # the last epoch is evaluated
            scores.plot([row["epoch"] for row in scored], [row[key] for row in scored], marker=".", label=key)
        best = max((row for row in scored if math.isfinite(row[score_name])), key=itemgetter(score_name), default=None)
        if best is not None:
            epoch, score = best["epoch"], best[score_name]
            label = f"best {score_name}: {score:.3f}, epoch {epoch}"
            scores.plot(epoch, score, "k*", markersize=11, zorder=3, clip_on=False, label=label)
        scores.set(title="validation", xlabel="epoch", ylim=(0, 1))
        add_legend_below(scores, 3)
        rates.plot([row["epoch"] for row in history], [row["lr"] for row in history])
        rates.set(title="learning rate", xlabel="epoch", ylim=(0, None))
        for axes in (losses, scores, rates):
            axes.grid(alpha=0.3)
