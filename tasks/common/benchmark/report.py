"""The measurements of `benchmark` as a table and as a plot."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from datasets.drawing.plot import add_legend_below, format_log_axis, label_point, new_plot
from datasets.words import plural
from tasks.common.benchmark.floor import PRECISIONS, Precision
from tasks.common.benchmark.runtimes import RUNTIMES

TITLE = "latency on the CPU"
WIDTH = 120  # where the output is no terminal


class Row(NamedTuple):
    """A measurement: one network in one runtime.

    Attributes:
        width: multiplier.
        input_size: in pixels.
        mult_adds: of an image, in millions.
        num_params: in millions.
        runtime: a name in RUNTIMES.
        num_threads: that the runtime uses.
        batch_size: images at once.
        ms_per_image: milliseconds of a batch, divided by its images.
        floor_rate: of the machine's matrix product in the runtime's precision, in millions of mult-adds per ms.
        predict_per_s: photos per second from their files to records, by what `predict` runs; None if not measured.
    """

    width: float
    input_size: int
    mult_adds: float
    num_params: float
    runtime: str
    num_threads: int
    batch_size: int
    ms_per_image: float
    floor_rate: float
    predict_per_s: float | None = None

    @property
    def images_per_s(self) -> float:
        """Images per second."""
        return 1000 / self.ms_per_image

    @property
    def times_floor(self) -> float:
        """The latency divided by that of as many mult-adds in one large matrix product."""
        return self.ms_per_image * self.floor_rate / self.mult_adds

    def as_record(self) -> dict[str, Any]:
        """The row as a flat dict."""
        return self._asdict() | {"images_per_s": self.images_per_s, "times_floor": self.times_floor}


def print_table(rows: Sequence[Row]) -> None:
    """A line for each measurement, the machine's own rates, and how well mult-adds order the latencies."""
    is_predicted = any(row.predict_per_s is not None for row in rows)
    table = Table(title=TITLE)
    for column in ("width", "px", "mult-\nadds, M", "para-\nmeters, M", "runtime", "threads", "batch"):
        table.add_column(column, justify="left" if column == "runtime" else "right")
    for column in ("ms an\nimage", "images/s", "times the\nfloor", *(["predict,\nphotos/s"] if is_predicted else [])):
        table.add_column(column, justify="right")
    for _, of_network in groupby(rows, lambda row: (row.width, row.input_size)):
        table.add_section()
        for number, row in enumerate(of_network):
            network = f"{row.width:g}", str(row.input_size), f"{row.mult_adds:.1f}", f"{row.num_params:.2f}"
            predicted = "-" if row.predict_per_s is None else f"{row.predict_per_s:,.1f}"
            table.add_row(
                *(network if number == 0 else [""] * len(network)),
                RUNTIMES[row.runtime].title,
                str(row.num_threads),
                str(row.batch_size),
                f"{row.ms_per_image:.2f}",
                f"{row.images_per_s:,.1f}",
                f"{row.times_floor:.2f}",
                *([predicted] if is_predicted else []),
            )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    for (precision, num_threads), rate in floor_rates(rows).items():
        print(
            f"floor, {plural(num_threads, 'thread')}, {precision}: {rate:.0f} G mult-adds/s in a large matrix product"
        )
    for (runtime, num_threads, batch_size), group in _groups(rows, "runtime", "num_threads", "batch_size"):
        if len(group) > 2:
            correlation = spearmanr([row.mult_adds for row in group], [row.ms_per_image for row in group]).statistic
            measured = f"{RUNTIMES[runtime].title}, {plural(num_threads, 'thread')}, batch {batch_size}"
            print(f"rank correlation of mult-adds with latency, {measured}: {correlation:.3f}")


def floor_rates(rows: Iterable[Row]) -> dict[tuple[Precision, int], float]:
    """The machine's rate by precision and number of threads, in millions of mult-adds per ms."""
    rates = {(RUNTIMES[row.runtime].precision, row.num_threads): row.floor_rate for row in rows}
    return dict(sorted(rates.items()))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Plot latency against mult-adds, in a panel for each number of threads and batch size.

    Colours are widths, markers runtimes; each point is named by its width and input size; lines are the floors.
    """
    threads, batches = (sorted({getattr(row, name) for row in rows}) for name in ("num_threads", "batch_size"))
    widths = sorted({row.width for row in rows}, reverse=True)
    runtimes = [name for name in RUNTIMES if any(row.runtime == name for row in rows)]
    with new_plot(path, max(9, 6 * len(batches)), max(7, 5 * len(threads))) as figure:
        panels = figure.subplots(len(threads), len(batches), sharex=True, sharey=True, squeeze=False)
        for axes, (num_threads, batch_size) in zip(panels.flat, product(threads, batches), strict=True):
            of_panel = [row for row in rows if (row.num_threads, row.batch_size) == (num_threads, batch_size)]
            _draw_panel(axes, of_panel, widths)
            title = f"{TITLE}: {plural(num_threads, 'thread')}, batch {batch_size}"
            axes.set(title=title, xlabel="mult-adds of an image, M", ylabel="ms an image", xscale="log", yscale="log")
            format_log_axis(axes.xaxis)
            format_log_axis(axes.yaxis)
            axes.grid(alpha=0.3)
        axes = panels.flat[0]
        for index, width in enumerate(widths):
            axes.plot([], [], color=f"C{index}", label=f"width {width:g}")
        for name in runtimes:
            runtime = RUNTIMES[name]
            axes.plot([], [], color="grey", marker=runtime.marker, linestyle="none", label=runtime.title)
        for precision in sorted({RUNTIMES[name].precision for name in runtimes}):
            axes.plot([], [], color="grey", linestyle=_line_style(precision), label=f"floor, {precision}")
        handles, labels = axes.get_legend_handles_labels()
        num_columns = min(len(handles), 9)
        add_legend_below(figure, num_columns, handles=handles, labels=labels, title="labels: width-input size, px")


def _draw_panel(axes: Any, rows: Sequence[Row], widths: Sequence[float]) -> None:
    for (precision, _), rate in floor_rates(rows).items():
        ends = sorted({row.mult_adds for row in rows})
        axes.plot(
            ends, [end / rate for end in ends], color="grey", linestyle=_line_style(precision), linewidth=0.8, zorder=1
        )
    for index, width in enumerate(widths):
        of_width = sorted((row for row in rows if row.width == width), key=lambda row: row.input_size)
        for (runtime,), line in _groups(of_width, "runtime"):
            mult_adds, latencies = [row.mult_adds for row in line], [row.ms_per_image for row in line]
            axes.plot(mult_adds, latencies, color=f"C{index}", marker=RUNTIMES[runtime].marker, linewidth=0.8)
        offset = (0, -5 if index % 2 else 5)  # lines of neighbouring widths overlap
        for (input_size,), points in _groups(of_width, "input_size"):
            lowest_ms, name = math.inf, f"{width:g}-{input_size}"
            for row in sorted(points, key=lambda row: row.ms_per_image, reverse=True):
                if row.ms_per_image < lowest_ms / 1.1:  # one label for points that overlap
                    label_point(axes, name, (row.mult_adds, row.ms_per_image), offset, f"C{index}")
                    lowest_ms, name = row.ms_per_image, str(input_size)


def _line_style(precision: Precision) -> str:
    return ("--", ":")[PRECISIONS.index(precision)]


def _groups(rows: Iterable[Row], *names: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """The rows by the values of those fields, in the order of their first ones."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) for name in names), []).append(row)
    return list(groups.items())
