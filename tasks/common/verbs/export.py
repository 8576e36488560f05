"""`export`: write a run's network as an ONNX file to a new run folder, and compare scores, size and latency."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from datasets.files import write_json
from datasets.sources import Source
from datasets.types import Image
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.difference import largest_difference, random_images
from tasks.common.deploy.exported import ExportedModel, ExportedPredictor, has_postprocessing
from tasks.common.deploy.formats.table import FORMATS, check_packages
from tasks.common.deploy.inference import inference_copy, latencies_ms
from tasks.common.deploy.onnx_file import ExportedNetwork, add_postprocessing, write_onnx
from tasks.common.deploy.onnx_network import is_onnx
from tasks.common.deploy.readme import format_readme
from tasks.common.deploy.session import MODEL, describe_outputs
from tasks.common.deploy.web_page import read_runtime, write_page
from tasks.common.evaluation.evaluate import TorchPredictor, evaluate_source
from tasks.common.evaluation.exported import evaluate_exported
from tasks.common.evaluation.report import metrics_as_json
from tasks.common.evaluation.sample import sample_images
from tasks.common.evaluation.scoring import Evaluation, Predict
from tasks.common.evaluation.thresholds import write_table
from tasks.common.runs.folder import check_out_folder, explain_full_disk, out_folder, same_again, write_settings
from tasks.common.runs.load import load_model
from tasks.common.runs.threshold import copy_table
from tasks.common.runtime.repository import ROOT
from tasks.common.settings import CONFIG, read_config
from tasks.common.task import Task
from tasks.common.verbs.formats import convert
from tasks.common.verbs.int8 import Attempt, find_int8, print_attempts
from tasks.registry import inference_class

if TYPE_CHECKING:
    from onnx import GraphProto

REPORT = "export.json"
PREDICTOR_FILE = ROOT / "tasks" / "common" / "deploy" / "predictor.py"  # copied as it is
CALIBRATION_IMAGES = 100  # of the training split


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


def export(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Export a network to ONNX and compare it with the original; without validation images in all but scores.

    Raises:
        ValueError: if the run is an exported network, the network cannot be exported, the outputs differ, or int8 lacks
            training images or loses more than `--max_loss`.
    """
    options = arguments.options
    check_out_folder(task_class.name, out=options["out"], run=options["run"])
    if options["run"] and (Path(options["run"]) / MODEL).is_file():
        raise ValueError(f"{options['run']}: is an exported network; give the run that it was exported from")
    is_web = options["format"] == "web"
    if is_web and options["raw"]:
        raise ValueError("--raw: a page needs the postprocessing inside the file; leave it out with --format web")
    runtime = read_runtime() if is_web else {}
    other = options["format"] if options["format"] in FORMATS else None
    if other is not None:
        check_packages(other)
        if options["int8"]:
            raise ValueError(f"--int8: files for {FORMATS[other].title} are in floats; leave out one of the flags")
    task, network = load_model(task_class, arguments.config, options["run"], arguments.given)
    if is_onnx(network):
        raise ValueError(f"{arguments.config.pretrained}: is an ONNX file already")
    graph = None if options["raw"] else task.postprocessing(network)
    images = _calibration_images(task) if options["int8"] else []
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary) / "floats.onnx"
        write_onnx(network, task.config.data.input_size, raw, task.name, task.metadata)
        on_cpu = inference_copy(network)
        difference = largest_difference(on_cpu, ExportedNetwork(raw), random_images(task.config.data.input_size))
        num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
        predictor = TorchPredictor(task, on_cpu)
        comparison = _Comparison(task)
        comparison.add(Candidate("PyTorch", partial(evaluate_source, task, network), predictor, num_bytes))
        floats = _of_file(task, "ONNX, float32", exported := _finish(raw, graph, task))
        converted = None if other is None else convert(other, task, on_cpu, raw, exported)
        if converted is not None and (runner := converted.runner) is not None:
            comparison.add(Candidate(converted.title, runner.evaluate, runner.predict, converted.num_bytes))
        comparison.add(floats)
        tried: list[Attempt] = []
        if options["int8"]:

            @cache
            def int8_of(path: Path) -> Candidate:
                return _of_file(task, "ONNX, int8", _finish(path, graph, task))

            best, tried = find_int8(
                task,
                raw,
                images,
                reference=floats.predict,
                predictor_of=lambda path: int8_of(path).predict,
                score_of=lambda path: comparison.score(int8_of(path)),
                float_score=comparison.score(floats),
                max_loss=options["max_loss"],
            )
            exported = _finish(best.raw, graph, task)
            comparison.add(int8_of(best.raw))
        folder = out_folder(
            task, "export-int8" if options["int8"] else "export", out=options["out"], run=options["run"]
        )
        with explain_full_disk(folder, same_again):
            shutil.copyfile(exported, folder / MODEL)
            write_settings(dataclasses.asdict(task.config), folder)
            task.write_metadata(folder)
            if graph is not None:
                task.write_companions(folder)
                shutil.copyfile(PREDICTOR_FILE, folder / PREDICTOR_FILE.name)
            if is_web:
                write_page(folder, task.predictor_settings(), runtime)
            if converted is not None:
                converted.save(folder)
            if options["run"]:
                copy_table(options["run"], folder)
            rows = comparison.rows(folder)
            report = {"max_difference": difference, "networks": rows, "int8": [one.as_record() for one in tried]}
            report |= {"format": converted and converted.as_record()}
            write_json(folder / REPORT, report)
            if graph is not None:
                text = format_readme(
                    task.name,
                    side=task.config.data.input_size,
                    outputs=describe_outputs(folder / MODEL),
                    score_name=task.score_name,
                    rows=rows,
                    pretrained=_pretrained(arguments),
                )
                (folder / "README.md").write_text(text, encoding="utf-8")
    _print(task, rows, difference)
    if converted is not None:
        print(converted.describe())
    if tried:
        print_attempts(tried, task.score_name, rows[1]["metrics"].get(task.score_name))
    print(f"use it with: python -m tasks.{task.name} predict --run {quote(str(folder))} INPUT...", file=sys.stderr)
    if is_web:
        server = f"python -m http.server --bind 127.0.0.1 --directory {quote(str(folder))}"
        print(f"see the page at http://127.0.0.1:8000 with: {server}", file=sys.stderr)
    return 0


def _pretrained(arguments: Arguments) -> str:
    """What the weights are from, or what the run started from."""
    run = arguments.options["run"]
    if run is None:
        return str(arguments.config.pretrained)
    return str(read_config(type(arguments.config), Path(run) / CONFIG).pretrained)


def _finish(raw: Path, graph: GraphProto | None, task: Task[Any]) -> Path:
    """A file with the graph behind the network; the file itself if there is none."""
    if graph is None:
        return raw
    path = raw.with_name(f"finished-{raw.name}")
    if not path.exists():
        shutil.copyfile(raw, path)
        add_postprocessing(path, graph, task)
    return path


def _of_file(task: Task[Any], title: str, file: Path) -> Candidate:
    num_bytes = file.stat().st_size
    if not has_postprocessing(file):
        network = ExportedNetwork(file)
        return Candidate(title, partial(evaluate_source, task, network), TorchPredictor(task, network), num_bytes)
    model = ExportedModel(file)
    predictor = ExportedPredictor(inference_class(task.name)(task.config, model.metadata), model)
    return Candidate(title, partial(evaluate_exported, predictor), predictor, num_bytes)


def _calibration_images(task: Task[Any]) -> list[Image]:
    """A random sample of preprocessed training images.

    Raises:
        ValueError: if there are none.
    """
    try:
        source = task.source("train")
    except ValueError as error:
        raise ValueError(f"--int8: needs training images for the ranges of its values: {error}") from error
    images, reason = sample_images(task, source, CALIBRATION_IMAGES, "reading images for int8")
    if not images:
        number = min(CALIBRATION_IMAGES, len(source))
        raise ValueError(f"--int8: none of {number} training images can be read; the last one: {reason}")
    return images


class _Comparison:
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


def _print(task: Task[Any], rows: list[dict[str, Any]], difference: float) -> None:
    table = Table()
    for column in ("", task.score_name, "MB", "ms for one image on the CPU", "times as fast"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        value, latency_ms = row["metrics"].get(task.score_name), row["latency_ms"]
        table.add_row(
            row["network"],
            "-" if value is None else f"{value:.4f}",
            f"{row['bytes'] / 1e6:.2f}",
            f"{latency_ms:.1f}",
            f"{rows[0]['latency_ms'] / latency_ms:.2f}",
        )
    Console().print(table)
    print(
        f"largest difference between the outputs of PyTorch and ONNX in float32: {difference:.1e} of the largest value"
    )
