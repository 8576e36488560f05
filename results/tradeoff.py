"""`python -m results tradeoff`: the best of a folder's trained networks within a latency and a size, as measured here.

Each run is exported once in float32 and once in 8 bits, beside the runs; its score is that of the exported file.
Latencies are measured anew in each command, all networks in turn.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from datasets.files import only_process
from datasets.words import join_words
from results.study import Step, pareto
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.inference import latencies_ms
from tasks.common.deploy.session import MODEL
from tasks.common.evaluation.report import write_csv
from tasks.common.runs import checkpoint
from tasks.common.runs.load import identify_run
from tasks.common.runtime.threads import usable_threads
from tasks.common.settings import CONFIG, read_config
from tasks.common.verbs.export import REPORT
from tasks.registry import config_class, inference_class

EXPORTS, TABLE = "exports", "tradeoff.csv"
LAST_FILE = "README.md"  # that `export` writes
WIDTH = 120  # where the output is no terminal
PRECISIONS = {"float32": (), "int8": ("--int8", "--max_loss", "1")}  # any loss: it shows in the score


class Option(NamedTuple):
    """An exported network.

    Attributes:
        run: that it was exported from, relative to the folder of the runs.
        backbone: name.
        input_size: in pixels.
        precision: a name in PRECISIONS.
        score: of the exported file on the run's validation images.
        latency_ms: of one image, from its pixels to the prediction.
        megabytes: of the file.
        export: the folder to copy.
    """

    run: str
    backbone: str
    input_size: int
    precision: str
    score: float
    latency_ms: float
    megabytes: float
    export: str


def tradeoff(folder: Path, *, max_ms: float, max_mb: float, num_threads: int | None = None) -> int:
    """Export and measure the runs of a folder, and name the one with the best score within the limits.

    Args:
        folder: with runs of one task on the same data, at any depth, such as that of a sweep.
        max_ms: highest latency of one image in milliseconds.
        max_mb: largest size of the file in megabytes.
        num_threads: of ONNX Runtime; None for as many as there are cores.

    Returns:
        The exit status: 0, or 3 if no network is within the limits.

    Raises:
        ValueError: if there are no such runs, one cannot be exported or has no score, or another process works there.
    """
    runs = sorted(path.parent for path in folder.rglob(checkpoint.BEST))
    if not runs:
        raise ValueError(f"{folder}: expected folders of runs, such as those of `python -m results sweep`, found none")
    task_name, configs = _read_configs(runs)
    exports = []
    with only_process(folder, "FOLDER"):
        for number, (run, precision) in enumerate(((run, word) for run in runs for word in PRECISIONS), 1):
            title = f"exporting {number} of {len(runs) * len(PRECISIONS)}: {run.relative_to(folder)}, {precision}"
            exports.append((run, precision, _export(task_name, run, folder, precision, title)))
        score_name, options = _measure(folder, task_name, configs, exports, num_threads)
        costs = np.array([(option.latency_ms, option.megabytes) for option in options])
        is_on_frontier = pareto(np.array([option.score for option in options]), costs)
        rows = zip(options, is_on_frontier, strict=True)
        write_csv(folder / TABLE, [option._asdict() | {"on_frontier": int(is_best)} for option, is_best in rows])
    best = best_within(options, max_ms, max_mb)
    _print([option for option, is_best in zip(options, is_on_frontier, strict=True) if is_best], best, score_name)
    if best is None:
        fastest, smallest = min(costs[:, 0]), min(costs[:, 1])
        print(f"none takes at most {max_ms:g} ms and {max_mb:g} MB; from {fastest:.2f} ms and {smallest:.2f} MB up")
        return 3
    print(f"{score_name} {best.score:.3f} in {best.latency_ms:.2f} ms and {best.megabytes:.2f} MB: {best.export}")
    return 0


def best_within(options: Sequence[Option], max_ms: float, max_mb: float) -> Option | None:
    """The option with the highest score within both limits, of equal ones the fastest; None if none is."""
    within = [option for option in options if option.latency_ms <= max_ms and option.megabytes <= max_mb]
    return max(within, key=lambda option: (option.score, -option.latency_ms, -option.megabytes), default=None)


def _read_configs(runs: Sequence[Path]) -> tuple[str, dict[Path, Any]]:
    """The task of the runs, and the settings of each.

    Raises:
        ValueError: if they are of several tasks, or their scores are on different data.
    """
    tasks = {run: identify_run(run)[0] for run in runs}
    if len(names := sorted(set(tasks.values()))) > 1:
        raise ValueError(f"{runs[0].parent}: has runs of {join_words(names)}; give a folder with runs of one task")
    configs: dict[Path, Any] = {run: read_config(config_class(names[0]), run / CONFIG) for run in runs}
    if len(roots := sorted({str(config.data.root) for config in configs.values()})) > 1:
        raise ValueError(f"data.root: the runs have {join_words(roots)}; scores on different data cannot be compared")
    return names[0], configs


def _export(task_name: str, run: Path, folder: Path, precision: str, title: str) -> Path:
    """The export of a run, which is written in a process of its own if there is none since the last training."""
    path = folder / EXPORTS / run.relative_to(folder) / precision
    words = ["--run", str(run), *PRECISIONS[precision]]
    step = Step((f"tasks.{task_name}", "export"), words, path, "--out", LAST_FILE, begun=())
    if step.is_done and (path / LAST_FILE).stat().st_mtime < (run / checkpoint.BEST).stat().st_mtime:
        shutil.rmtree(path)
    step.make(title)
    return path


def _measure(
    folder: Path,
    task_name: str,
    configs: dict[Path, Any],
    exports: Sequence[tuple[Path, str, Path]],
    num_threads: int | None,
) -> tuple[str, list[Option]]:
    models = [
        ExportedModel(path / MODEL, task=task_name, num_threads=usable_threads(num_threads)) for _, _, path in exports
    ]
    calls = [partial(model.run, np.zeros((1, 3, *2 * [model.input_size]), np.uint8)) for model in models]
    options, score_name = [], ""
    for (run, precision, path), model, latency_ms in zip(exports, models, latencies_ms(calls), strict=True):
        config = configs[run]
        score_name = inference_class(task_name)(config, model.metadata).score_name
        row = json.loads((path / REPORT).read_text(encoding="utf-8"))["networks"][-1]
        score = row["metrics"].get(score_name)
        if score is None or not math.isfinite(score):
            raise ValueError(f"{path}: was exported without a score; delete it, and give the validation images back")
        size, name = row["bytes"] / 1e6, str(run.relative_to(folder))
        network = config.backbone.name, config.data.input_size
        options.append(Option(name, *network, precision, score, latency_ms, size, str(path)))
    return score_name, options


def _print(frontier: Sequence[Option], best: Option | None, score_name: str) -> None:
    """The networks that no other one beats in score, latency and size together, the slowest first."""
    table = Table(title="the frontier of score, latency and size")
    for column in ("run", "backbone", "px", "precision", score_name, "ms", "MB", ""):
        table.add_column(column, justify="right" if column in ("px", score_name, "ms", "MB") else "left")
    for option in sorted(frontier, key=lambda option: -option.latency_ms):
        mark = "the best within the limits" if option == best else ""
        numbers = f"{option.score:.3f}", f"{option.latency_ms:.2f}", f"{option.megabytes:.2f}"
        table.add_row(option.run, option.backbone, str(option.input_size), option.precision, *numbers, mark)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
