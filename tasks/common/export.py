"""`export`: a run's network as an ONNX file, in a folder that is a run itself, and what that costs and gains."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from datasets.files import write_json
from datasets.images import UnreadableImageError
from datasets.types import Image
from tasks.common.commands import load_model, out_folder, write_settings
from tasks.common.deployed import latencies_ms
from tasks.common.device import device_of
from tasks.common.evaluate import evaluate_source
from tasks.common.onnx_file import MODEL, ExportedNetwork, quantize, write_onnx
from tasks.common.parser import Arguments
from tasks.common.progress import Progress
from tasks.common.report import metrics_as_json
from tasks.common.task import Task

REPORT = "export.json"
CALIBRATION_IMAGES = 100  # of the training split
MAX_DIFFERENCE = 1e-3  # of outputs in floats, as a share of the largest


class Candidate(NamedTuple):
    """One form of the network.

    Attributes:
        title: for people.
        network: on its device.
        num_bytes: of the file, or of the weights.
    """

    title: str
    network: nn.Module
    num_bytes: int


def export(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Write an ONNX file and compare it with the network that it comes from."""
    task, network = load_model(task_class, arguments)
    if isinstance(network, ExportedNetwork):
        raise ValueError(f"{arguments.options['run']}: is exported already; name the run that it comes from")
    in_8_bits = arguments.options["int8"]
    with tempfile.TemporaryDirectory() as temporary:
        floats = Path(temporary) / "floats.onnx"
        write_onnx(network, task.config.data.input_size, floats, task.name, task.vocabulary)
        num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
        candidates = [Candidate("PyTorch", network, num_bytes), _open("ONNX, float", floats)]
        difference = _difference(task, network, candidates[1].network)
        chosen = floats
        if in_8_bits:
            chosen = Path(temporary) / "int8.onnx"
            quantize(floats, chosen, _calibration_images(task))
            candidates.append(_open("ONNX, 8 bits", chosen))
        folder = out_folder(task, arguments.options, "export-int8" if in_8_bits else "export")
        shutil.copyfile(chosen, folder / MODEL)
    write_settings(dataclasses.asdict(task.config), folder)
    task.write_vocabulary(folder)
    rows = _compare(task, candidates)
    write_json(folder / REPORT, {"max_difference": difference, "networks": rows})
    _print(task, rows, difference)
    print(f"use it with: python -m tasks.{task.name} predict --run {folder} INPUT...", file=sys.stderr)
    return 0


def _open(title: str, file: Path) -> Candidate:
    return Candidate(title, ExportedNetwork(file), file.stat().st_size)


def _calibration_images(task: Task[Any]) -> Iterator[Image]:
    """Some training images as the network sees them."""
    source = task.source("train")
    rows = np.random.default_rng(task.config.seed).permutation(len(source))[:CALIBRATION_IMAGES]
    preprocess = task.preprocessing()
    with Progress("measuring activations", len(rows)) as progress:
        for row in rows:
            try:
                yield preprocess(source[int(row)].image)
            except UnreadableImageError:
                continue  # named when the data are evaluated
            finally:
                progress.advance()


@torch.inference_mode()
def _difference(task: Task[Any], network: nn.Module, exported: nn.Module) -> float:
    """The greatest difference of an output for random pixels, as a share of the output's largest number."""
    side = task.config.data.input_size
    images = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pairs = list(zip(network.eval()(images.to(device_of(network))), exported(images), strict=True))
    differences = [
        float((ours.cpu() - theirs).abs().max() / ours.abs().max()) for ours, theirs in pairs if theirs.numel()
    ]
    assert max(differences) < MAX_DIFFERENCE, differences
    return max(differences)


def _compare(task: Task[Any], candidates: list[Candidate]) -> list[dict[str, Any]]:
    """Scores on the validation images, size, latency."""
    source = task.source("val")
    latencies = latencies_ms([(candidate.network, task.config.data.input_size) for candidate in candidates])
    rows = []
    for candidate, latency_ms in zip(candidates, latencies, strict=True):
        evaluation = evaluate_source(task, candidate.network, source, f"evaluating {candidate.title}")
        metrics = metrics_as_json(evaluation.scores, evaluation.counts)
        rows.append(
            {"network": candidate.title, "bytes": candidate.num_bytes, "latency_ms": latency_ms, "metrics": metrics}
        )
    return rows


def _print(task: Task[Any], rows: list[dict[str, Any]], difference: float) -> None:
    table = Table()
    for column in ("", task.score_name, "MB", "ms for one image", "times as fast"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        value, latency_ms = row["metrics"][task.score_name], row["latency_ms"]
        table.add_row(
            row["network"],
            "-" if value is None else f"{value:.4f}",
            f"{row['bytes'] / 1e6:.2f}",
            f"{latency_ms:.1f}",
            f"{rows[0]['latency_ms'] / latency_ms:.2f}",
        )
    Console().print(table)
    print(f"greatest difference of an output in floats: {difference:.1e} of the largest")
