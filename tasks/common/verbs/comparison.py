"""The versions of a network that `export` compares: scores, size and latency."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import nn

from datasets.sources import Source
from tasks.common.deploy.exported import ExportedModel, ExportedPredictor
from tasks.common.deploy.inference import latencies_ms
from tasks.common.deploy.onnx_file import ExportedNetwork
from tasks.common.evaluation.evaluate import TorchPredictor, evaluate_source
from tasks.common.evaluation.exported import evaluate_exported
from tasks.common.evaluation.report import metrics_as_json
from tasks.common.evaluation.scoring import Evaluation
from tasks.common.evaluation.thresholds import write_table
from tasks.common.inference_task import Predict
from tasks.common.task import Task
from tasks.registry import inference_class


class Candidate(NamedTuple):
    """A version of the network to compare.

    Attributes:
        title: in the table.
        evaluate: (images with their truth, title of the progress bar) -> its scores.
        predict: preprocessed images -> a prediction for each, on the CPU as ONNX Runtime does.
        num_bytes: size of the file or of the weights.
    """

    title: str
    evaluate: Callable[[Source[Any], str], Evaluation[Any]]
    predict: Predict[Any]
    num_bytes: int


def network_candidate(
    task: Task[Any], title: str, network: nn.Module, num_bytes: int, *, on_cpu: nn.Module | None = None
) -> Candidate:
    """A network, and its copy on the CPU if it is on another device."""
    predictor = TorchPredictor(task, network if on_cpu is None else on_cpu)
    return Candidate(title, partial(evaluate_source, task, network), predictor, num_bytes)


def file_candidate(task: Task[Any], title: str, model: ExportedModel, num_bytes: int) -> Candidate:
    """An exported file, with its postprocessing inside or with raw outputs."""
    if not model.has_postprocessing:
        return network_candidate(task, title, ExportedNetwork(model), num_bytes)
    predictor = ExportedPredictor(inference_class(task.name)(task.config, model.metadata), model)
    return Candidate(title, partial(evaluate_exported, predictor), predictor, num_bytes)


class Comparison:
    """Scores on the validation images, if there are any, size, and latency on the CPU of several versions."""

    def __init__(self, task: Task[Any]) -> None:
        self._task = task
        self._candidates: list[Candidate] = []
        self._evaluations: dict[Candidate, Evaluation[Any]] = {}
        self._source: Source[Any] | None = None
        try:
            self._source = task.source("val")
        except ValueError as error:
            self._go_without(error)

    def add(self, candidate: Candidate) -> None:
        """Add a row."""
        self._candidates.append(candidate)
        self.score(candidate)

    def score(self, candidate: Candidate) -> float | None:
        """The score of a version; None without validation images."""
        if candidate not in self._evaluations and self._source is not None:
            try:
                evaluation = candidate.evaluate(self._source, f"evaluating {candidate.title}")
                self._evaluations[candidate] = evaluation
            except ValueError as error:
                self._go_without(error)
        if candidate not in self._evaluations:
            return None
        return self._evaluations[candidate].scores[self._task.score_name]

    def _go_without(self, error: ValueError) -> None:
        """The network is of use all the same."""
        print(f"scores were not compared: {error}", file=sys.stderr)
        self._source = None
        self._evaluations.clear()

    def rows(self, folder: Path) -> list[dict[str, Any]]:
        """The rows; the table of thresholds of the last version is written to the folder."""
        side = self._task.config.data.input_size
        image = np.zeros((side, side, 3), np.uint8)
        latencies = latencies_ms([partial(candidate.predict, [image]) for candidate in self._candidates])
        rows = []
        for candidate, latency_ms in zip(self._candidates, latencies, strict=True):
            evaluation = self._evaluations.get(candidate)
            metrics = {} if evaluation is None else metrics_as_json(evaluation.scores, evaluation.counts)
            row = {"network": candidate.title, "bytes": candidate.num_bytes, "latency_ms": latency_ms}
            rows.append(row | {"metrics": metrics})
        if evaluation is not None:
            write_table(evaluation.metric.count_at_thresholds(), folder)
        return rows


def print_rows(rows: Sequence[Mapping[str, Any]], score_name: str) -> None:
    """Print the rows as a table."""
    table = Table()
    for column in ("", score_name, "MB", "ms for one image on the CPU", "times as fast"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        value, latency_ms = row["metrics"].get(score_name), row["latency_ms"]
        table.add_row(
            row["network"],
            "-" if value is None else f"{value:.4f}",
            f"{row['bytes'] / 1e6:.2f}",
            f"{latency_ms:.1f}",
            f"{rows[0]['latency_ms'] / latency_ms:.2f}",
        )
    Console().print(table)
