"""Teacher, distilled student and the student alone, side by side: scores, cost, latency, a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from torch import nn

from tasks.common.deploy.inference import inference_cost, latencies_ms
from tasks.common.drawing.plot import new_plot
from tasks.common.evaluation.evaluate import evaluate_source
from tasks.common.evaluation.report import write_csv
from tasks.common.task import Task

REPORT, PICTURE = "report.csv", "report.png"
HIDDEN = ("epoch", "num_images", "num_unreadable")  # of metrics.json, no scores


class Learner(NamedTuple):
    """One column of the report.

    Attributes:
        title: for people.
        model: the network as it predicts, on its device.
        input_size: in pixels.
        metrics: its scores.
        history: of its training, rows with `epoch` and scores; empty where there was none.
    """

    title: str
    model: nn.Module
    input_size: int
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()


class Row(NamedTuple):
    """What the report says of one of them."""

    who: str
    input_size: int
    mult_adds: int | None
    num_params: int | None
    latency_ms: float
    scores: dict[str, float]


def evaluate_teacher(teacher_task: Task[Any], model: nn.Module, student: Task[Any]) -> dict[str, float]:
    """A teacher's scores on the student's validation images, at its own input size."""
    source, metric = student.source("val"), student.metric()
    return evaluate_source(teacher_task, model, source, "evaluating the teacher", metric=metric).scores


def compare(learners: Sequence[Learner]) -> list[Row]:
    """Cost and latency of each, beside its scores."""
    latencies = latencies_ms([(learner.model, learner.input_size) for learner in learners])
    rows = []
    for learner, latency_ms in zip(learners, latencies, strict=True):
        mult_adds, num_params = _cost(learner)
        known = {name: value for name, value in learner.metrics.items() if name not in HIDDEN}
        scores = {name: math.nan if value is None else float(value) for name, value in known.items()}
        rows.append(Row(learner.title, learner.input_size, mult_adds, num_params, latency_ms, scores))
    return rows


def verdict(rows: Sequence[Row], score_name: str) -> str:
    """Whether it was worth it, in a line; `rows` are those of the teacher, the distilled student and the one alone."""
    teacher, distilled, alone = (row.scores[score_name] for row in rows)
    if distilled > alone:
        return f"the teacher helps: {score_name} {distilled:.3f} with it, {alone:.3f} without"
    why = (
        f"the teacher itself has {teacher:.3f}, no more than what the labels alone give"
        if teacher <= alone
        else f"the teacher has {teacher:.3f}; more epochs, more images or some --alpha may help"
    )
    return f"the teacher does not help: {score_name} {distilled:.3f} with it, {alone:.3f} without; {why}"


def write_report(rows: Sequence[Row], learners: Sequence[Learner], score_name: str, folder: Path) -> None:
    """Print the table; write it as `report.csv`, and draw `report.png`."""
    columns = Row._fields[:-1]
    write_csv(folder / REPORT, [{name: getattr(row, name) for name in columns} | row.scores for row in rows])
    table = Table()
    table.add_column("")
    for row in rows:
        table.add_column(row.who, justify="right")
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    for name in names:
        table.add_row(name, *(_text(row.scores.get(name), ".4f") for row in rows))
    table.add_section()
    table.add_row("input, px", *(str(row.input_size) for row in rows))
    table.add_row("mult-adds, M", *(_text(row.mult_adds and row.mult_adds / 1e6, ",.1f") for row in rows))
    table.add_row("parameters, M", *(_text(row.num_params and row.num_params / 1e6, ".2f") for row in rows))
    table.add_row("latency of one image, ms", *(_text(row.latency_ms, ".1f") for row in rows))
    Console().print(table)
    _draw(rows, learners, score_name, folder / PICTURE)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def _cost(learner: Learner) -> tuple[int | None, int | None]:
    """Mult-adds and parameters; neither of an ONNX file, which is no network of torch."""
    if not any(True for _ in learner.model.parameters()):
        return None, None
    cost = inference_cost(learner.model, learner.input_size)
    return cost.mult_adds, cost.num_params


def _draw(rows: Sequence[Row], learners: Sequence[Learner], score_name: str, path: Path) -> None:
    """Scores over epochs with the teacher's as a line, and scores against latency."""
    with new_plot(path, 11, 4) as figure:
        curves, prices = figure.subplots(1, 2, sharey=True)
        for number, (row, learner) in enumerate(zip(rows, learners, strict=True)):
            colour = f"C{number}"
            points = [(line["epoch"] / learner.history[-1]["epoch"], line[score_name]) for line in learner.history]
            if points:
                curves.plot(*zip(*points, strict=True), marker=".", color=colour, label=row.who)
            else:
                curves.axhline(row.scores[score_name], color=colour, linestyle="--", label=row.who)
            prices.plot(row.latency_ms, row.scores[score_name], "o", markersize=9, color=colour)
        curves.set(xlabel="share of the training done", ylabel=score_name)
        curves.legend(fontsize=8)
        prices.set(xlabel="latency of one image, ms", xlim=(0, None))
        for axes in (curves, prices):
            axes.grid(alpha=0.3)
