"""The table and the plot of an ablation: what a change does to the score, and whether the seeds can tell."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

from datasets.drawing.plot import new_plot
from results.study_rows import RowResult, number, print_rows, read_score
from tasks.common.drawing.plot import score_title
from tasks.common.evaluation.report import write_csv
from tasks.common.runs.folder import METRICS
from tasks.common.runs.load import open_run
from tasks.registry import config_class, task_class

TABLE, PICTURE = "ablate.csv", "ablate.png"
CONFIDENCE = 0.95
UNKNOWN, TOO_SMALL, BETTER, WORSE = "needs 2 seeds", "too small to say", "better", "worse"
EXPLANATION = (
    "difference: to the counterpart, mean over the seeds that both have; 95 %: half the width of its confidence "
    f"interval (Student's t of the differences by seed); {TOO_SMALL}: zero is inside"
)


@dataclass(kw_only=True)
class AblatedRow(RowResult):
    """A row of the table.

    Attributes:
        network: name of its backbone.
        counterpart: row that it is compared with; empty if there is none.
        difference: of the score to the counterpart's, mean over the seeds that both have.
        half_interval: half the width of its 95 % confidence interval.
        note: why there is no such network.
    """

    network: str
    counterpart: str
    difference: float = math.nan
    half_interval: float = math.nan
    note: str = ""

    def compare(self, other: RowResult) -> None:
        """Fill in the difference to the counterpart.

        half_interval = t(0.975, n - 1) * s / sqrt(n),  s: standard deviation of the n differences
        """
        differences = [self.scores[seed] - other.scores[seed] for seed in self.scores if seed in other.scores]
        if differences:
            self.difference = statistics.mean(differences)
        if len(differences) > 1:
            quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
            self.half_interval = quantile * statistics.stdev(differences) / math.sqrt(len(differences))

    @property
    def verdict(self) -> str:
        """What the seeds say about the difference."""
        if not self.counterpart or self.note:
            return ""
        if math.isnan(self.half_interval):
            return UNKNOWN
        if abs(self.difference) <= self.half_interval:
            return TOO_SMALL
        return BETTER if self.difference > 0 else WORSE


def measure(results: Sequence[AblatedRow], task_name: str, runs: Mapping[str, Sequence[Path]]) -> None:
    """Fill in the scores, differences and sizes of the rows that are finished.

    Args:
        results: the rows.
        task_name: of the task.
        runs: row -> the folder of each seed's run, finished or not.

    Raises:
        ValueError: if there were no validation images.
    """
    task_type = task_class(task_name)
    for result in results:
        finished = {seed: run for seed, run in enumerate(runs[result.row]) if (run / METRICS).is_file()}
        for seed, run in finished.items():
            metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
            result.scores[seed] = read_score(run / METRICS, metrics, task_type.score_name)
        if finished:
            run = next(iter(finished.values()))
            task, network = open_run(run, task_type, config_class(task_name))
            result.measure(run, network, task.config.data.input_size)
    by_name = {result.row: result for result in results}
    for result in results:
        if result.counterpart:
            result.compare(by_name[result.counterpart])


def write(results: Sequence[AblatedRow], task_name: str, folder: Path) -> None:
    """Print the table, and write it and the plot into the folder."""
    score_name = task_class(task_name).score_name
    write_csv(folder / TABLE, [_record(result, score_name) for result in results])
    columns = ["", "backbone", score_name, "±", "seeds", "to", "difference", "95 %", "", "mult-adds\nM"]
    cells = [
        [
            result.row,
            result.network,
            *(number(value, ".3f") for value in (result.score, result.deviation)),
            str(len(result.scores)),
            result.counterpart,
            number(result.difference, "+.3f"),
            number(result.half_interval, ".3f"),
            result.verdict,
            *(number(value, ".3f") for value in (result.mult_adds, result.num_params)),
            number(result.num_steps, ".0f"),
        ]
        for result in results
    ]
    notes = [f"{result.row}: {result.note}" for result in results if result.note]
    print_rows([*columns, "parameters\nM", "steps"], cells, [*notes, EXPLANATION])
    measured = [result for result in results if result.scores]
    if measured:
        _draw(measured, score_title(score_name), folder / PICTURE)


def _record(result: AblatedRow, score_name: str) -> dict[str, Any]:
    by_seed = {f"seed_{seed}": score for seed, score in result.scores.items()}
    words = {"network": result.network, "counterpart": result.counterpart, "verdict": result.verdict}
    return result.record(score_name) | words | {"note": result.note} | by_seed


def _draw(results: Sequence[AblatedRow], title: str, path: Path) -> None:
    """The scores of all seeds, and beside them the differences with their confidence intervals."""
    with new_plot(path, 11, 1.5 + 0.4 * len(results)) as figure:
        scores, differences = figure.subplots(1, 2, sharey=True)
        for at, result in enumerate(results):
            colour = f"C{at % 10}"
            values = list(result.scores.values())
            scores.plot(values, [at] * len(values), "o", color=colour, fillstyle="none")
            scores.plot(result.score, at, "|", color=colour, markersize=16)
            if not math.isnan(result.difference):
                half = 0.0 if math.isnan(result.half_interval) else result.half_interval
                differences.errorbar(result.difference, at, xerr=half, fmt="o", color=colour, capsize=4)
        differences.axvline(0, color="black", linewidth=0.8)
        scores.set(xlabel=f"{title}: seeds (o), mean (|)")
        scores.set_yticks(range(len(results)), [result.row for result in results])
        scores.invert_yaxis()
        differences.set(xlabel="difference to the counterpart, 95 % confidence")
        for axes in (scores, differences):
            axes.grid(alpha=0.3)
