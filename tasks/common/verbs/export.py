"""`export`: write a run's network as an ONNX file to a new run folder, and compare scores, size and latency."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from datasets.files import write_json
from datasets.images.read import UnreadableImageError
from datasets.progress import Progress
from datasets.sources import Source
from datasets.types import Image
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.exported import ExportedModel, ExportedPredictor, has_postprocessing
from tasks.common.deploy.inference import call_of, inference_copy, latencies_ms
from tasks.common.deploy.onnx_file import ExportedNetwork, add_postprocessing, write_onnx
from tasks.common.deploy.onnx_network import OnnxNetwork
from tasks.common.deploy.quantization import quantize
from tasks.common.deploy.session import MODEL
from tasks.common.evaluation.evaluate import evaluate_source
from tasks.common.evaluation.exported import evaluate_exported
from tasks.common.evaluation.report import metrics_as_json
from tasks.common.evaluation.scoring import Evaluation
from tasks.common.evaluation.thresholds import write_table
from tasks.common.runs.folder import check_out_folder, explain_full_disk, out_folder, same_again, write_settings
from tasks.common.runs.load import load_model
from tasks.common.runs.threshold import copy_table
from tasks.common.runtime.repository import ROOT
from tasks.common.task import Task
from tasks.registry import inference_class

REPORT = "export.json"
PREDICTOR_FILE = ROOT / "tasks" / "common" / "deploy" / "predictor.py"  # copied as it is
CALIBRATION_IMAGES = 100  # of the training split
MAX_DIFFERENCE = 1e-3  # of an output in float32, relative to its largest absolute value


class Candidate(NamedTuple):
    """A version of the network to compare.

    Attributes:
        title: in the table.
        evaluate: (images with their truth, title of the progress bar) -> its scores.
        call: computes the predictions for one image, on the CPU as ONNX Runtime does.
        num_bytes: size of the file or of the weights.
    """

    title: str
    evaluate: Callable[[Source[Any], str], Evaluation[Any]]
    call: Callable[[], Any]
    num_bytes: int


def export(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Export a network to ONNX and compare it with the original; without validation images in all but scores.

    Raises:
        ValueError: if the run is an exported network, the network cannot be exported, the outputs differ, or int8 lacks
            training images.
    """
    options = arguments.options
    check_out_folder(task_class.name, out=options["out"], run=options["run"])
    if options["run"] and (Path(options["run"]) / MODEL).is_file():
        raise ValueError(f"{options['run']}: is an exported network; give the run that it was exported from")
    task, network = load_model(task_class, arguments.config, options["run"], arguments.given)
    if any(isinstance(module, OnnxNetwork) for module in network.modules()):
        raise ValueError(f"{arguments.config.pretrained}: is an ONNX file already")
    graph = None if options["raw"] else task.postprocessing(network)
    images = _calibration_images(task) if options["int8"] else []
    with tempfile.TemporaryDirectory() as temporary:
        floats, int8 = Path(temporary) / "floats.onnx", Path(temporary) / "int8.onnx"
        write_onnx(network, task.config.data.input_size, floats, task.name, task.metadata)
        on_cpu = inference_copy(network)
        difference = max_difference(on_cpu, ExportedNetwork(floats), task.config.data.input_size)
        files = {"ONNX, float32": floats}
        if options["int8"]:
            quantize(floats, int8, images)
            files["ONNX, int8"] = int8
        if graph is not None:
            for file in files.values():
                add_postprocessing(file, graph, task)
        candidates = [_of_network(task, network, on_cpu), *(_of_file(task, *item) for item in files.items())]
        folder = out_folder(
            task, "export-int8" if options["int8"] else "export", out=options["out"], run=options["run"]
        )
        with explain_full_disk(folder, same_again):
            shutil.copyfile(list(files.values())[-1], folder / MODEL)
            write_settings(dataclasses.asdict(task.config), folder)
            task.write_metadata(folder)
            if graph is not None:
                task.write_companions(folder)
                shutil.copyfile(PREDICTOR_FILE, folder / PREDICTOR_FILE.name)
            if options["run"]:
                copy_table(options["run"], folder)
            rows = _compare(task, candidates, folder)
            write_json(folder / REPORT, {"max_difference": difference, "networks": rows})
    _print(task, rows, difference)
    print(f"use it with: python -m tasks.{task.name} predict --run {quote(str(folder))} INPUT...", file=sys.stderr)
    return 0


def _of_network(task: Task[Any], network: nn.Module, on_cpu: nn.Module) -> Candidate:
    call = call_of(on_cpu, task.config.data.input_size)
    num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    return Candidate("PyTorch", partial(evaluate_source, task, network), lambda: task.decode(call()), num_bytes)


def _of_file(task: Task[Any], title: str, file: Path) -> Candidate:
    side, num_bytes = task.config.data.input_size, file.stat().st_size
    if not has_postprocessing(file):
        network = ExportedNetwork(file)
        call = call_of(network, side)
        return Candidate(title, partial(evaluate_source, task, network), lambda: task.decode(call()), num_bytes)
    model = ExportedModel(file)
    predictor = ExportedPredictor(inference_class(task.name)(task.config, model.metadata), model)
    image = np.zeros((side, side, 3), np.uint8)
    return Candidate(title, partial(evaluate_exported, predictor), partial(predictor, [image]), num_bytes)


def _calibration_images(task: Task[Any]) -> list[Image]:
    """A random sample of preprocessed training images.

    Raises:
        ValueError: if there are none.
    """
    try:
        source = task.source("train")
    except ValueError as error:
        raise ValueError(f"--int8: needs training images for the ranges of its values: {error}") from error
    rows = np.random.default_rng(task.config.seed).permutation(len(source))[:CALIBRATION_IMAGES]
    preprocess, images, reason = task.preprocessing(), [], ""
    with Progress("reading images for int8", len(rows)) as progress:
        for row in rows:
            try:
                images.append(preprocess(source[int(row)].image))
            except UnreadableImageError as error:
                reason = str(error)  # the evaluation warns about it
            progress.advance()
    if not images:
        raise ValueError(f"--int8: none of {len(rows)} training images can be read; the last one: {reason}")
    return images


@torch.inference_mode()
def max_difference(network: nn.Module, exported: nn.Module, input_size: int) -> float:
    """The largest absolute difference of an output on random pixels, relative to the output's largest absolute value.

    Args:
        network: on the CPU; run in float32, without TF32.
        exported: the same network from an ONNX file.
        input_size: of both.

    Raises:
        ValueError: if an output differs by more than `MAX_DIFFERENCE`.
    """
    shape = (3, 3, input_size, input_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        expected, actual = network(images), exported(images)
    finally:
        torch.set_float32_matmul_precision(precision)
    largest = 0.0
    for name, a, b in zip(expected._fields, expected, actual, strict=True):
        if not a.numel():
            continue
        difference = float((a - b).abs().max() / a.abs().max().clamp(min=torch.finfo(a.dtype).tiny))
        if not difference <= MAX_DIFFERENCE:  # also catches NaN
            raise ValueError(
                f"export: {name} of the ONNX file differs from PyTorch's by {difference:.1e} of its largest value, "
                f"expected at most {MAX_DIFFERENCE:.0e}; update torch and onnxruntime, or use the run without exporting"
            )
        largest = max(largest, difference)
    return largest


def _compare(task: Task[Any], candidates: list[Candidate], folder: Path) -> list[dict[str, Any]]:
    """Scores on the validation images, if there are any, size, and latency on the CPU.

    The table of thresholds of the exported network, the last one, is written to the folder.
    """
    latencies = latencies_ms([candidate.call for candidate in candidates])
    try:
        metrics = _evaluate(task, candidates, folder)
    except ValueError as error:  # the network is of use all the same
        print(f"scores were not compared: {error}", file=sys.stderr)
        metrics = [{} for _ in candidates]
    return [
        {"network": candidate.title, "bytes": candidate.num_bytes, "latency_ms": latency_ms, "metrics": scores}
        for candidate, latency_ms, scores in zip(candidates, latencies, metrics, strict=True)
    ]


def _evaluate(task: Task[Any], candidates: list[Candidate], folder: Path) -> list[dict[str, Any]]:
    source = task.source("val")
    metrics = []
    for candidate in candidates:
        evaluation = candidate.evaluate(source, f"evaluating {candidate.title}")
        metrics.append(metrics_as_json(evaluation.scores, evaluation.counts))
    write_table(evaluation.metric.count_at_thresholds(), folder)
    return metrics


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
