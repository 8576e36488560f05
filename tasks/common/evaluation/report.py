"""A run in figures: the log of its epochs, a line for each, and metrics as JSON and as a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datasets.files import atomic_write

PER_CLASS = "per_class.csv"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as CSV, atomically; a row without a value for a column leaves it empty. By default all the rows' columns.

    A file name that is not UTF-8 keeps its bytes: `errors="surrogateescape"` gives it back.
    """
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _rounded(value) if isinstance(value, float) else value for key, value in row.items()})


def _rounded(value: float) -> float:
    """To six digits after the point, or where that leaves fewer, as of a small learning rate, to six that count."""
    return float(f"{value:.6g}") if abs(value) < 1 else round(value, 6)


def epoch_line(row: Mapping[str, Any], epochs: int, score_name: str) -> str:
    """An epoch in one line."""
    scores = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if key.startswith(score_name))
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  {row['images_per_s']:.0f} images/s "
        f"({100 * row['wait_fraction']:.0f}% waiting for data)  {scores}"
    ).rstrip()


def is_new_best(score: float, history: Sequence[Mapping[str, Any]], score_name: str) -> bool:
    """Whether a score is higher than all before it; one that is not defined (NaN) is none, unless it is the first."""
    earlier = [row[score_name] for row in history if score_name in row]
    return not earlier or (math.isfinite(score) and all(score > other for other in earlier if math.isfinite(other)))


def metrics_as_json(scores: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, Any]:
    """Flat JSON of scores and of what they are of; what is not defined is null, since JSON knows no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()} | dict(counts)


def print_metrics(metrics: Mapping[str, float], title: str) -> None:
    """A table on standard output."""
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}" if math.isfinite(value) else "-")
    print(title)
    Console().print(table)
