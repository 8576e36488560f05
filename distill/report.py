"""Teachers, distilled student and baseline side by side: scores, cost, latency, a plot, and their masks."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from torch import nn

from datasets.drawing.draw import add_caption, contact_sheet, fit_tile
from datasets.drawing.plot import add_legend_below, label_point, new_plot
from datasets.images.read import UnreadableImageError, write_image
from datasets.subsample import evenly_spread
from distill.teacher import Teacher
from tasks.common.deploy.inference import call_of, inference_cost, latencies_ms
from tasks.common.drawing.plot import score_title
from tasks.common.evaluation.evaluate import TorchPredictor, evaluate_source
from tasks.common.evaluation.report import write_csv
from tasks.common.runs.folder import LOG, METRICS
from tasks.common.runs.load import open_run
from tasks.common.task import Task

REPORT, PICTURE, MASKS = "report.csv", "report.png", "masks.png"
NUM_MASKED = 4  # images whose masks are drawn
MAX_LABEL = 40  # characters beside a point of the plot
NOT_SCORES = ("epoch", "num_images", "num_unreadable")  # in metrics.json


class ModelEntry(NamedTuple):
    """One model in the report.

    Attributes:
        title: for tables and plots.
        task: decodes its outputs, at its input size.
        model: the network for inference, on its device.
        metrics: the content of its metrics.json.
        history: rows of its training log with scores; empty for teachers.
    """

    title: str
    task: Task[Any]
    model: nn.Module
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()

    @property
    def input_size(self) -> int:
        """The side of its input in pixels."""
        size: int = self.task.config.data.input_size
        return size

    @property
    def label(self) -> str:
        """A short title: of a run, its folder."""
        return self.title.rstrip("/").rpartition("/")[2][:MAX_LABEL]


class Row(NamedTuple):
    """Scores and cost of one model."""

    model: str
    input_size: int
    mult_adds: int | None
    num_params: int | None
    latency_ms: float
    scores: dict[str, float]


def report(student: Task[Any], teachers: Sequence[Teacher], runs: Sequence[Path], folder: Path) -> None:
    """Evaluate the teachers, and print, write and plot the comparison with the students.

    Args:
        student: the student's task.
        teachers: of the distillation.
        runs: of the distilled student, and of the baseline if there is one.
        folder: for `report.csv`, `report.png` and, of segmentation, `masks.png`.
    """
    entries = [_teacher_entry(teacher, student) for teacher in teachers] + [_run_entry(student, run) for run in runs]
    rows = compare(entries)
    write_report(rows, entries, student.score_name, folder)
    if student.name == "segmentation":
        draw_masks(student, entries, folder / MASKS)
    if len(runs) == 2:
        print(verdict(rows, student.score_name))


def _teacher_entry(teacher: Teacher, student: Task[Any]) -> ModelEntry:
    """A teacher with its scores on the student's validation images, at its own input size."""
    source, metric = student.source("val"), student.metric()
    evaluation = evaluate_source(teacher.task, teacher.model, source, "evaluating the teacher", metric=metric)
    return ModelEntry(teacher.title, teacher.task, teacher.model, evaluation.scores)


def _run_entry(student: Task[Any], run: Path) -> ModelEntry:
    """The best checkpoint of a run, with its training history."""
    task, model = open_run(run, type(student), type(student.config))
    with (run / LOG).open(newline="", encoding="utf-8") as file:
        history = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    scored = [row for row in history if student.score_name in row]
    metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
    return ModelEntry(f"{student.config.backbone.name} {run.name}", task, model, metrics, scored)


def compare(entries: Sequence[ModelEntry]) -> list[Row]:
    """Measure the cost and latency of each model."""
    latencies = latencies_ms([call_of(entry.model, entry.input_size) for entry in entries])
    rows = []
    for entry, latency_ms in zip(entries, latencies, strict=True):
        mult_adds, num_params = _cost(entry)
        scores = {
            name: math.nan if value is None else float(value)
            for name, value in entry.metrics.items()
            if name not in NOT_SCORES
        }
        rows.append(Row(entry.title, entry.input_size, mult_adds, num_params, latency_ms, scores))
    return rows


def verdict(rows: Sequence[Row], score_name: str) -> str:
    """Whether the teacher helps, in one line; `rows`: teachers, distilled student, baseline."""
    *teachers, distilled, baseline = (row.scores[score_name] for row in rows)
    teacher = max(teachers)
    if distilled > baseline:
        return f"the teacher helps: {score_name} {distilled:.3f} with it, {baseline:.3f} without"
    reason = (
        f"the teacher itself scores {teacher:.3f}, no better than the baseline"
        if teacher <= baseline
        else f"the teacher scores {teacher:.3f}; more epochs, more images or --alpha over 0 may help"
    )
    return f"the teacher does not help: {score_name} {distilled:.3f} with it, {baseline:.3f} without; {reason}"


def write_report(rows: Sequence[Row], entries: Sequence[ModelEntry], score_name: str, folder: Path) -> None:
    """Print the table, write it as `report.csv`, and plot `report.png`."""
    columns = Row._fields[:-1]
    write_csv(folder / REPORT, [{name: getattr(row, name) for name in columns} | row.scores for row in rows])
    table = Table()
    table.add_column("")
    for row in rows:
        table.add_column(row.model, justify="right")
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    for name in names:
        table.add_row(name, *(_format(row.scores.get(name), ".4f") for row in rows))
    table.add_section()
    table.add_row("input, px", *(str(row.input_size) for row in rows))
    table.add_row("mult-adds, M", *(_format(row.mult_adds and row.mult_adds / 1e6, ",.1f") for row in rows))
    table.add_row("parameters, M", *(_format(row.num_params and row.num_params / 1e6, ".2f") for row in rows))
    table.add_row("latency of one image, ms", *(_format(row.latency_ms, ".1f") for row in rows))
    Console().print(table)
    _plot(rows, entries, score_name, folder / PICTURE)


def draw_masks(student: Task[Any], entries: Sequence[ModelEntry], path: Path) -> None:
    """Draw the true masks of a few validation images beside those of each model, an image in each row."""
    source, tiles, columns = student.source("val"), [], 1 + len(entries)
    for row in evenly_spread(len(source), NUM_MASKED).tolist():
        try:
            example = source[row]
        except UnreadableImageError:
            continue  # the evaluation has warned about it
        masks = [("truth", example.truth)]
        for entry in entries:
            (predicted,) = TorchPredictor(entry.task, entry.model)([entry.task.preprocessing()(example.image)])
            masks.append((entry.label, predicted))
        for label, mask in masks:
            tiles.append(fit_tile(add_caption(student.draw(example.image, mask), label, is_title=True), columns))
    if tiles:
        write_image(path, contact_sheet(tiles, columns))


def _format(value: float | None, spec: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, spec)


def _cost(entry: ModelEntry) -> tuple[int | None, int | None]:
    """Mult-adds and parameters; None for an ONNX file, which is not a torch network."""
    if not any(True for _ in entry.model.parameters()):
        return None, None
    cost = inference_cost(entry.model, entry.input_size)
    return cost.mult_adds, cost.num_params


def _plot(rows: Sequence[Row], entries: Sequence[ModelEntry], score_name: str, path: Path) -> None:
    """Scores over epochs with the teacher's as a dashed line, and scores against latency."""
    by_score = sorted(range(len(rows)), key=lambda index: rows[index].scores[score_name])
    middle_ms = max(row.latency_ms for row in rows) / 2
    with new_plot(path, 11, 4.5) as figure:
        curves, tradeoff = figure.subplots(1, 2, sharey=True)
        for index, (row, entry) in enumerate(zip(rows, entries, strict=True)):
            colour = f"C{index}"
            points = [(line["epoch"] / entry.history[-1]["epoch"], line[score_name]) for line in entry.history]
            if points:
                curves.plot(*zip(*points, strict=True), marker=".", color=colour, label=row.model)
            else:
                curves.axhline(row.scores[score_name], color=colour, linestyle="--", label=row.model)
            point = (row.latency_ms, row.scores[score_name])
            tradeoff.plot(*point, "o", markersize=9, color=colour)
            rank = by_score.index(index) - len(rows) // 2
            offset_y = 8 + 12 * rank if rank >= 0 else 4 + 12 * rank  # labels of equal scores do not overlap
            label_point(tradeoff, entry.label, point, (1 if row.latency_ms < middle_ms else -1, offset_y), colour)
        curves.set(xlabel="fraction of training", ylabel=score_title(score_name))
        for axes in (curves, tradeoff):
            axes.margins(y=0.2)
            axes.grid(alpha=0.3)
        tradeoff.set(xlabel="latency of one image, ms", xlim=(0, 2.2 * middle_ms))
        add_legend_below(figure, len(rows))
