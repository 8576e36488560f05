"""The rows of a study's table: scores by seed, size and steps of a network, and how they are printed."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from tasks.common.deploy.inference import inference_cost
from tasks.common.runs.folder import LOG

MAX_TABLE_WIDTH = 1000  # characters


@dataclass(kw_only=True)
class RowResult:
    """What all studies have in a row; NaN where something is unknown.

    Attributes:
        row: its name.
        scores: by seed, of those that are finished.
        mult_adds: in millions.
        num_params: in millions.
        num_steps: optimiser steps of the training.
    """

    row: str
    scores: dict[int, float] = field(default_factory=dict)
    mult_adds: float = math.nan
    num_params: float = math.nan
    num_steps: float = math.nan

    @property
    def score(self) -> float:
        """The mean over the seeds."""
        return statistics.mean(self.scores.values()) if self.scores else math.nan

    @property
    def deviation(self) -> float:
        """The standard deviation of a seed's score."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else math.nan

    def measure(self, run: Path, network: nn.Module, input_size: int) -> None:
        """Fill in the size of a run's network, and the steps of its training."""
        cost = inference_cost(network, input_size)
        self.mult_adds, self.num_params = cost.mult_adds / 1e6, cost.num_params / 1e6
        self.num_steps = num_steps(run)

    def record(self, score_name: str) -> dict[str, Any]:
        """The row for a CSV file, with all numbers; None where one is unknown."""
        own = {key: value for key, value in vars(self).items() if isinstance(value, int | float)}
        numbers = {score_name: self.score, "deviation": self.deviation, "num_seeds": len(self.scores), **own}
        return {"row": self.row, **{key: None if math.isnan(value) else value for key, value in numbers.items()}}


def read_score(file: Path, metrics: Mapping[str, Any], score_name: str) -> float:
    """The score among the metrics of a finished training.

    Raises:
        ValueError: naming their file, if there were no validation images.
    """
    if metrics.get(score_name) is None:
        raise ValueError(f"{file}: has no {score_name}; expected data with validation images")
    return float(metrics[score_name])


def num_steps(run: Path) -> int:
    """The optimiser steps of a training."""
    with (run / LOG).open(newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    return int(float(last["step"]))


def number(value: float, form: str) -> str:
    """A number for the table; a dash if it is unknown."""
    return "-" if math.isnan(value) else format(value, form)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str]) -> None:
    """Print a table, and notes below it; where the terminal is narrower, its lines are broken, and no digit is lost."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    needed = console.measure(table, options=console.options.update(width=MAX_TABLE_WIDTH)).maximum
    console.width = max(console.width, needed)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
