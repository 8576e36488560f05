"""`python -m results sweep`: width by resolution on one task, all cells trained with the same settings.

A cell is a run folder of the task, so an interrupted sweep resumes within a cell, and finished cells are kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from datasets.drawing.plot import add_legend_below, label_point, new_plot
from results.study import CELLS, Step, check_settings, deadline_after, mark_frontier, pareto, status_of
from tasks.common.deploy.inference import call_of, inference_cost, latencies_ms
from tasks.common.drawing.plot import score_title
from tasks.common.evaluation.report import write_csv
from tasks.common.runs.folder import METRICS
from tasks.common.runs.load import open_run
from tasks.registry import config_class, task_class

SWEEP, TABLE, PICTURE = "sweep.json", "sweep.csv", "sweep.png"
COSTS = {"mult_adds": "mult-adds, M", "num_params": "parameters, M", "latency_ms": "latency of one image, ms"}


class Cell(NamedTuple):
    """One width at one size.

    Attributes:
        width: multiplier.
        input_size: in pixels.
        score: of the best checkpoint.
        mult_adds: in millions.
        num_params: in millions.
        latency_ms: of one image.
    """

    width: float
    input_size: int
    score: float
    mult_adds: float
    num_params: float
    latency_ms: float


def sweep(
    task_name: str,
    widths: Sequence[float],
    sizes: Sequence[int],
    out: Path,
    settings: Sequence[str],
    *,
    weights: Sequence[str] = (),
    budget_minutes: float | None = None,
) -> int:
    """Train the missing cells of a grid, and write its table and plot into `out`.

    Args:
        task_name: of the task.
        widths: multipliers.
        sizes: input sizes in pixels.
        out: folder; a sweep that is in it is resumed.
        settings: of the task, as command-line words.
        weights: `pretrained` for each width; if empty, that of the settings.
        budget_minutes: no cell is started after this time.

    Returns:
        The exit status: 0, or 3 if cells are left.

    Raises:
        ValueError: if a training fails, or the folder has a sweep with other settings.
    """
    grid = [(width, size) for width in widths for size in sizes]
    weights_of = dict(zip_longest(widths, weights))
    weights_by_name = {f"weights of width {width:g}": file for width, file in weights_of.items()}
    check_settings(out / SWEEP, {"task": task_name, "settings": list(settings)} | weights_by_name)
    deadline = deadline_after(budget_minutes)
    num_left = 0
    for position, (width, size) in enumerate(grid, 1):
        words = [*settings, "--backbone.name", f"mobilenet_{width}", "--data.input_size", str(size)]
        if (pretrained := weights_of[width]) is not None:
            words += ["--pretrained", pretrained]
        step = Step((f"tasks.{task_name}", "train"), words, out / CELLS / f"{width:g}_{size}")
        num_left += not step.make(f"cell {position} of {len(grid)}: width {width:g}, {size} px", deadline)
    score_name, cells = _measure(task_name, out)
    if cells:
        _write(cells, score_name, out)
    return status_of(num_left, len(grid), "cells")


def _measure(task_name: str, out: Path) -> tuple[str, list[Cell]]:
    """All finished cells of the folder; the networks take turns in measuring latency."""
    runs = sorted(path.parent for path in (out / CELLS).glob(f"*/{METRICS}"))
    opened = [open_run(run, task_class(task_name), config_class(task_name)) for run in runs]
    latencies = latencies_ms([call_of(model, task.config.data.input_size) for task, model in opened])
    cells, score_name = [], ""
    for run, (task, model), latency_ms in zip(runs, opened, latencies, strict=True):
        score_name = task.score_name
        cost = inference_cost(model, task.config.data.input_size)
        score = json.loads((run / METRICS).read_text(encoding="utf-8"))[score_name]
        width = float(run.name.partition("_")[0])
        millions = (cost.mult_adds / 1e6, cost.num_params / 1e6)
        cells.append(Cell(width, task.config.data.input_size, float(score), *millions, latency_ms))
    return score_name, sorted(cells, reverse=True)


def _write(cells: Sequence[Cell], score_name: str, out: Path) -> None:
    scores = np.array([cell.score for cell in cells])
    fronts = {cost: pareto(scores, np.array([getattr(cell, cost) for cell in cells])) for cost in COSTS}
    rows = []
    for index, cell in enumerate(cells):
        columns = {score_name if key == "score" else key: value for key, value in cell._asdict().items()}
        rows.append(columns | {f"best_by_{cost}": int(front[index]) for cost, front in fronts.items()})
    write_csv(out / TABLE, rows)
    for cell in cells:
        print(
            f"width {cell.width:<5g} {cell.input_size:>4} px   {score_name} {cell.score:.3f}   {cell.mult_adds:8.1f} M"
            f" mult-adds   {cell.num_params:6.2f} M parameters   {cell.latency_ms:7.1f} ms"
        )
    if len(cells) > 2:
        rank = spearmanr([cell.mult_adds for cell in cells], [cell.latency_ms for cell in cells]).statistic
        print(f"rank correlation of mult-adds with latency: {rank:.3f}")
    _draw(cells, fronts, score_name, out / PICTURE)


def _draw(cells: Sequence[Cell], fronts: dict[str, NDArray[np.bool_]], score_name: str, path: Path) -> None:
    """The score against each cost, as in the paper's Figures 4 and 5; labels are widths, rings Pareto optimal cells."""
    with new_plot(path, 15, 5.5) as figure:
        sizes = sorted({cell.input_size for cell in cells})
        panels = figure.subplots(1, 3, sharey=True)
        scores = np.array([cell.score for cell in cells])
        for axes, (cost, label) in zip(panels, COSTS.items(), strict=True):
            for index, size in enumerate(sizes):
                of_size = [cell for cell in sorted(cells) if cell.input_size == size]
                line = [(getattr(cell, cost), cell.score) for cell in of_size]
                axes.plot(*zip(*line, strict=True), marker="o", color=f"C{index}", label=f"{size} px")
                for cell, point in zip(of_size, line, strict=True):
                    label_point(axes, f"{cell.width:g}", point, (6, -4), f"C{index}")
            costs = np.array([getattr(cell, cost) for cell in cells])
            mark_frontier(axes, scores, costs, fronts[cost], label)
        panels[0].set(ylabel=score_title(score_name))
        handles, _ = panels[0].get_legend_handles_labels()
        add_legend_below(figure, len(handles), handles=handles, title="labels: width multiplier")
