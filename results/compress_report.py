"""The table and the plot of a compression study."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.drawing.plot import add_legend_below, new_plot
from datasets.progress import Progress
from results.compress_rows import network_of, origin_of, precision_of
from results.compress_runtimes import ONNX_RUNTIME, Call, open_row
from results.compress_steps import Study
from results.study import mark_frontier, pareto
from results.study_rows import RowResult, num_steps, number, print_rows, read_score
from tasks.common.benchmark.runtimes import RUNTIMES
from tasks.common.deploy.inference import latencies_ms
from tasks.common.deploy.session import MODEL
from tasks.common.drawing.plot import score_title
from tasks.common.evaluation.report import write_csv
from tasks.common.runs.folder import METRICS
from tasks.common.runs.load import open_run
from tasks.common.verbs.export import REPORT
from tasks.registry import config_class, task_class

TABLE, PICTURE = "compress.csv", "compress.png"
OPENING_DELAY_S = 1.0  # before the bar is shown
MARKERS = {"": "o", "int8": "^", "qat": "v"}
COSTS = {"file_mb": "size of the ONNX file, MB", "onnx_ms": "one image in ONNX Runtime, ms"}


@dataclass(kw_only=True)
class CompressedRow(RowResult):
    """A row of the table; in 8 bits, its parameters are those of the network before.

    Attributes:
        file_mb: bytes of the ONNX file, in millions.
        latencies_ms: of one image by runtime, of those that have the network.
        num_origin_steps: those of the network that it is made of.
        note: why something is missing.
    """

    file_mb: float = math.nan
    latencies_ms: dict[str, float] = field(default_factory=dict)
    num_origin_steps: float = math.nan
    note: str = ""

    @property
    def onnx_ms(self) -> float:
        """Of one image in ONNX Runtime."""
        return self.latencies_ms.get(ONNX_RUNTIME, math.nan)


def measure(
    study: Study, rows: Sequence[str], num_seeds: int, notes: Mapping[str, str], runtimes: Sequence[str]
) -> list[CompressedRow]:
    """What the finished rows score, and what they cost; the networks take turns in measuring latency.

    Args:
        study: of the rows.
        rows: their names.
        num_seeds: 0, 1, ...
        notes: why a row is not there.
        runtimes: that measure latency.
    """
    score_name = task_class(study.task).score_name
    results, calls = [], list[tuple[CompressedRow, str, Call]]()
    with tempfile.TemporaryDirectory() as folder:
        with Progress("opening", len(rows), delay_s=OPENING_DELAY_S) as progress:
            for row in rows:
                progress.describe(row)
                result = CompressedRow(row=row, note=notes.get(row, ""))
                scores = {seed: _score(study, row, seed, score_name) for seed in range(num_seeds)}
                result.scores = {seed: score for seed, score in scores.items() if score is not None}
                results.append(result)
                if result.scores and (study.run_of(row, 0) / METRICS).is_file():
                    (of_row := Path(folder, str(len(results)))).mkdir()
                    calls += [(result, *call) for call in _open(result, study, runtimes, of_row).items()]
                progress.advance()
        for (result, runtime, _), latency_ms in zip(calls, latencies_ms([call for *_, call in calls]), strict=True):
            result.latencies_ms[runtime] = latency_ms
    return results


def _open(result: CompressedRow, study: Study, runtimes: Sequence[str], folder: Path) -> dict[str, Call]:
    """Open a row's network in each runtime; fills in its size, its steps, and why a runtime has none."""
    row, run = result.row, study.run_of(result.row, 0)
    result.num_origin_steps = num_steps(study.run_of(origin_of(row), 0)) if origin_of(row) else 0
    task, network = open_run(run, task_class(study.task), config_class(study.task))
    result.measure(run, network, task.config.data.input_size)
    file = study.export_of(row, 0) / MODEL
    if file.is_file():
        result.file_mb = file.stat().st_size / 1e6
    calls, reasons = open_row(task, network, file, bool(precision_of(row)), runtimes, folder)
    result.note = "; ".join(filter(None, [result.note, *reasons]))
    return calls


def _score(study: Study, row: str, seed: int, score_name: str) -> float | None:
    """The score of a row with a seed; None if it is not finished.

    Raises:
        ValueError: if there were no validation images.
    """
    report = study.export_of(row, seed) / REPORT if precision_of(row) else study.run_of(row, seed) / METRICS
    if not report.is_file():
        return None
    content = json.loads(report.read_text(encoding="utf-8"))
    return read_score(report, content["networks"][-1]["metrics"] if precision_of(row) else content, score_name)


def write(results: Sequence[CompressedRow], study: Study, runtimes: Sequence[str]) -> None:
    """Print the table, and write it and the plot into the folder of the study."""
    score_name = task_class(study.task).score_name
    measured = [result for result in results if not math.isnan(result.score + result.file_mb + result.onnx_ms)]
    fronts = {cost: pareto(*_points(measured, cost)) for cost in COSTS}
    best = {
        cost: {result.row for result, is_best in zip(measured, front, strict=True) if is_best}
        for cost, front in fronts.items()
    }
    write_csv(study.folder / TABLE, [_record(result, score_name, runtimes, best) for result in results])
    _print(results, score_name, runtimes)
    if measured:
        _draw(measured, fronts, score_name, study.folder / PICTURE)


def _points(results: Sequence[CompressedRow], cost: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores, and one of the costs."""
    return np.array([result.score for result in results]), np.array([getattr(result, cost) for result in results])


def _record(
    result: CompressedRow, score_name: str, runtimes: Sequence[str], best: Mapping[str, set[str]]
) -> dict[str, Any]:
    latencies = {f"{runtime}_ms": result.latencies_ms.get(runtime) for runtime in runtimes}
    fronts = {f"best_by_{cost}": int(result.row in rows) for cost, rows in best.items()}
    return result.record(score_name) | latencies | fronts | {"note": result.note}


def _print(results: Sequence[CompressedRow], score_name: str, runtimes: Sequence[str]) -> None:
    latencies = [f"{RUNTIMES[runtime].title}\nms" for runtime in runtimes]
    sizes = ("mult-adds\nM", "parameters\nM", "ONNX\nMB", *latencies, "steps", "steps\nbefore")
    cells = [
        [
            result.row,
            *(number(value, ".3f") for value in (result.score, result.deviation)),
            str(len(result.scores)),
            *(number(value, ".2f") for value in (result.mult_adds, result.num_params, result.file_mb)),
            *(number(result.latencies_ms.get(runtime, math.nan), ".2f") for runtime in runtimes),
            *(number(value, ".0f") for value in (result.num_steps, result.num_origin_steps)),
        ]
        for result in results
    ]
    notes = [f"{result.row}: {result.note}" for result in results if result.note]
    if any(precision_of(result.row) == "qat" for result in results):
        notes.append("qat: the steps of `export --int8 --finetune` itself are not counted")
    print_rows(["", score_name, "±", "seeds", *sizes], cells, notes)


def _draw(
    results: Sequence[CompressedRow], fronts: Mapping[str, NDArray[np.bool_]], score_name: str, path: Path
) -> None:
    """The score against the file's size and the latency: a colour for each network, a marker for each precision."""
    networks = list(dict.fromkeys(network_of(result.row) for result in results))
    with new_plot(path, 12, 5.5) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (cost, label) in zip(panels, COSTS.items(), strict=True):
            for result in results:
                colour = f"C{networks.index(network_of(result.row))}"
                style = {"color": colour, "marker": MARKERS[precision_of(result.row)]}
                deviation = 0.0 if math.isnan(result.deviation) else result.deviation
                axes.errorbar(getattr(result, cost), result.score, deviation, linestyle="", label=result.row, **style)
            mark_frontier(axes, *_points(results, cost), fronts[cost], label)
        panels[0].set(ylabel=score_title(score_name))
        handles, labels = panels[0].get_legend_handles_labels()
        add_legend_below(figure, min(len(labels), 5), handles=handles)
