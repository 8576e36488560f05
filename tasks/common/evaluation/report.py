"""Logs and metrics as CSV, JSON, lines and tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datasets.files import atomic_write

PER_CLASS = "per_class.csv"


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV, atomically.

    File names that are not UTF-8 keep their bytes; read them with `errors="surrogateescape"`.

    Args:
        path: the file.
        rows: missing values become empty cells; with `columns` one at a time is in memory.
        columns: to write; None for all columns of all rows.
    """
    if columns is None:
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _rounded(value) if isinstance(value, float) else value for key, value in row.items()})


def _rounded(value: float) -> float:
    """Round to six decimals, or below 1 to six significant digits, so that small learning rates are not lost."""
    return float(f"{value:.6g}") if abs(value) < 1 else round(value, 6)


def epoch_line(row: Mapping[str, Any], epochs: int, score_name: str) -> str:
    """The log line of an epoch."""
    scores = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if key.startswith(score_name))
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  {row['images_per_s']:.0f} images/s "
        f"({100 * row['wait_fraction']:.0f}% waiting for data)  {scores}"
    ).rstrip()


def is_new_best(score: float, history: Sequence[Mapping[str, Any]], score_name: str) -> bool:
    """Whether a score is higher than all earlier ones; NaN counts only as the first score."""
    earlier = [row[score_name] for row in history if score_name in row]
    return not earlier or (math.isfinite(score) and all(score > old for old in earlier if math.isfinite(old)))


def has_stalled(history: Sequence[Mapping[str, Any]], score_name: str, patience: int) -> bool:
    """Whether the last evaluation was `patience` or more epochs after the one with the highest score.

    Undefined scores (NaN) are no rise; if there are no others, nothing is known, and the score has not stalled.
    """
    scored = [row for row in history if score_name in row]
    defined = [row for row in scored if math.isfinite(row[score_name])]
    if not defined:
        return False
    best = max(defined, key=itemgetter(score_name))  # the first of equal ones
    stalled: bool = scored[-1]["epoch"] - best["epoch"] >= patience
    return stalled


def metrics_as_json(scores: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, Any]:
    """Scores and counts as one flat dict; NaN becomes None, since JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()} | dict(counts)


def print_metrics(metrics: Mapping[str, float], title: str) -> None:
    """Print a table to standard output."""
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}" if math.isfinite(value) else "-")
    print(title)
    Console().print(table)
