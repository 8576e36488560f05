"""`benchmark`: CPU latency by width, input size, runtime, threads and batch size, with random weights or of a model."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from backbone.names import parse_name
from datasets.images.read import AS_STORED, UnreadableImageError
from datasets.memory import keep_freed_memory
from datasets.progress import Progress
from datasets.words import plural
from tasks.common.benchmark.floor import MULT_ADDS, PRECISIONS, product_call
from tasks.common.benchmark.report import Row, draw, print_table
from tasks.common.benchmark.runtimes import ONNX, RUNTIMES, TORCH, Files, check_runtimes, opener, write_files
from tasks.common.benchmark.throughput import exported_model, photos_per_second
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.formats.source import Run
from tasks.common.deploy.inference import inference_cost, latencies_ms
from tasks.common.evaluation.evaluate import TorchPredictor
from tasks.common.evaluation.report import write_csv
from tasks.common.prediction.find import find_sources
from tasks.common.prediction.model import Model
from tasks.common.prediction.sources import Picture, Source
from tasks.common.runs.folder import check_out_folder, out_folder
from tasks.common.runs.load import load_model
from tasks.common.runtime.threads import num_cores
from tasks.common.settings import replace_settings
from tasks.common.task import Task

TABLE, PICTURE = "benchmark.csv", "benchmark.png"


class _Measured(NamedTuple):
    """A network in a runtime, open with a number of threads."""

    position: int  # of the model
    runtime: str
    num_threads: int
    run: Run
    predict_per_s: float | None


def benchmark(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Measure the latency of all widths at all input sizes, or of one trained model; write a table and a plot.

    Raises:
        ValueError: if a runtime is not installed, or does not run the network.
    """
    keep_freed_memory()
    options = arguments.options
    check_out_folder(task_class.name, out=options["out"])
    runtimes = [runtime for runtime in RUNTIMES if runtime in options["runtimes"]]
    before = torch.get_num_threads()
    num_threads = _counts("num_threads", options["num_threads"] or [before])
    if options["num_threads"] and num_threads[-1] > num_cores():
        raise ValueError(f"--num_threads: expected at most this machine's {num_cores()} cores, got {num_threads[-1]}")
    batch_sizes = _counts("batch_sizes", options["batch_sizes"])
    check_runtimes(runtimes, num_threads, batch_sizes)
    photos = _photos(options["images"]) if options["images"] else []
    models = list(_models(task_class, arguments))
    with tempfile.TemporaryDirectory() as folder:
        measured = list(_open(models, runtimes, num_threads, photos, Path(folder)))
        rows = _measure(models, measured, num_threads, batch_sizes, Path(folder))
    torch.set_num_threads(before)
    out = out_folder(models[0][0], "benchmark", out=options["out"])
    records = [row.as_record() for row in rows]
    write_csv(out / TABLE, records)
    draw(rows, out / PICTURE)
    if options["json"]:
        print(json.dumps(records, indent=2))
    else:
        print_table(rows)
    print(f"wrote {TABLE} and {PICTURE} to {out}", file=sys.stderr)
    return 0


def _counts(flag: str, values: Sequence[int]) -> list[int]:
    if min(values) < 1:
        raise ValueError(f"--{flag}: expected numbers of 1 or more, got {min(values)}")
    return sorted(set(values))


def _photos(folder: str) -> list[Source]:
    """The photos of a folder that can be read; what is left out is said on standard error.

    Raises:
        ValueError: if there is none, or something else than photos.
    """
    sources, readable, reasons = find_sources([folder]), list[Source](), []
    for source in sources:
        if not isinstance(source, Picture):
            raise ValueError(f"--images: {source.name} is a video or a stream; expected a folder of photos alone")
        try:
            source.read(AS_STORED)
        except UnreadableImageError as error:
            reasons.append(str(error))
        else:
            readable.append(source)
    if not readable:
        raise ValueError(f"--images: none of {plural(len(sources), 'photo')} can be read; the first: {reasons[0]}")
    if reasons:
        left_out = f"{len(reasons)} of {plural(len(sources), 'photo')}"
        print(f"--images: left out {left_out} that cannot be read; the first: {reasons[0]}", file=sys.stderr)
    return readable


def _models(task_class: type[Task[Any]], arguments: Arguments) -> Iterator[tuple[Task[Any], nn.Module]]:
    """The model in `pretrained` if there is one, else random networks of all widths and sizes.

    Raises:
        ValueError: if the model is given and others are asked for, too.
    """
    config, options = arguments.config, arguments.options
    if config.pretrained != "none":
        for flag in arguments.given & {"widths", "sizes", "num_classes"}:
            raise ValueError(f"--{flag}: cannot be set with --pretrained, which is a network of its own")
        yield load_model(task_class, config, None, arguments.given)
        return
    for width, size in itertools.product(options["widths"], options["sizes"]):
        task = task_class.with_num_classes(_scaled(config, width, size), options["num_classes"])
        yield task, task.build_model()


def _scaled(config: Any, width: float, input_size: int) -> Any:
    """The settings at another width and input size, with random weights."""
    backbone = {"backbone.name": f"mobilenet_{width:g}", "backbone.channels": None}
    return replace_settings(config, {**backbone, "data.input_size": input_size})


def _open(
    models: Sequence[tuple[Task[Any], nn.Module]],
    runtimes: Sequence[str],
    num_threads: Sequence[int],
    photos: Sequence[Source],
    folder: Path,
) -> Iterator[_Measured]:
    """Each network in each runtime with each number of threads; all on the CPU."""
    with Progress("building", len(models)) as progress:
        for position, (task, network) in enumerate(models):
            side = task.config.data.input_size
            progress.describe(f"{task.config.backbone.name}, {side} px")
            (of_model := folder / str(position)).mkdir()
            files = write_files(task, network, runtimes, of_model)
            for runtime in runtimes:
                open_file = opener(runtime, files, side, of_model)
                for threads in num_threads:
                    predicted = _predict(task, files, runtime, threads, photos) if photos else None
                    yield _Measured(position, runtime, threads, open_file(threads), predicted)
            progress.advance()


def _predict(task: Task[Any], files: Files, runtime: str, num_threads: int, photos: Sequence[Source]) -> float | None:
    """Photos per second by `predict`; None for a runtime that it does not use."""
    if runtime == TORCH:
        torch.set_num_threads(num_threads)
        return photos_per_second(Model(task, TorchPredictor(task, files.network)), photos)
    if runtime not in ONNX.values():
        return None
    raw = files.onnx[RUNTIMES[runtime].precision]
    finished = Path(shutil.copyfile(raw, raw.with_name("finished.onnx")))
    return photos_per_second(exported_model(task, files.network, finished, num_threads), photos)


def _measure(
    models: Sequence[tuple[Task[Any], nn.Module]],
    measured: Sequence[_Measured],
    num_threads: Sequence[int],
    batch_sizes: Sequence[int],
    folder: Path,
) -> list[Row]:
    """Times all networks and the machine's matrix products in turn, in one run."""
    sides = [task.config.data.input_size for task, _ in models]
    costs = [inference_cost(network, side) for (_, network), side in zip(models, sides, strict=True)]
    cells = [
        (one, batch_size)
        for one in measured
        for batch_size in batch_sizes
        if batch_size == 1 or RUNTIMES[one.runtime].takes_batches
    ]
    products = list(itertools.product(PRECISIONS, num_threads))
    calls = [product_call(*product, folder) for product in products]
    calls += [partial(one.run, _black(sides[one.position], batch_size)) for one, batch_size in cells]
    latencies = iter(latencies_ms(calls))
    rates = {product: MULT_ADDS / 1e6 / next(latencies) for product in products}
    rows = []
    for one, batch_size in cells:
        task, cost = models[one.position][0], costs[one.position]
        rows.append(
            Row(
                parse_name(task.config.backbone.name).width_mult,
                sides[one.position],
                cost.mult_adds / 1e6,
                cost.num_params / 1e6,
                one.runtime,
                one.num_threads,
                batch_size,
                next(latencies) / batch_size,
                rates[RUNTIMES[one.runtime].precision, one.num_threads],
                one.predict_per_s,
            )
        )
    return rows


def _black(side: int, batch_size: int) -> Any:
    return np.zeros((batch_size, 3, side, side), np.uint8)
