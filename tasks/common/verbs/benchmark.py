"""`benchmark`: CPU latency by width and input size with random weights, or of a model, in PyTorch and ONNX Runtime."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import nn

from backbone.names import parse_name
from datasets.drawing.plot import add_legend_below, format_log_axis, label_point, new_plot
from datasets.memory import keep_freed_memory
from datasets.progress import Progress
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.inference import call_of, inference_copy, inference_cost, latencies_ms
from tasks.common.deploy.onnx_file import ExportedNetwork, write_onnx
from tasks.common.deploy.quantization import UNCORRECTED, quantize
from tasks.common.evaluation.report import write_csv
from tasks.common.runs.folder import out_folder
from tasks.common.runs.load import load_model
from tasks.common.settings import replace_settings
from tasks.common.task import Task

TABLE, PICTURE = "benchmark.csv", "benchmark.png"
TITLE = "latency of one image on the CPU"
RUNTIMES = {"torch": "PyTorch", "onnx": "ONNX", "int8": "ONNX, int8"}
MARKERS = {"torch": "o", "onnx": "s", "int8": "^"}


class Row(NamedTuple):
    """The measurements of a width multiplier at an input size.

    Attributes:
        width: multiplier.
        input_size: in pixels.
        mult_adds: in millions.
        num_params: in millions.
        latencies_ms: of one image on the CPU, by runtime.
    """

    width: float
    input_size: int
    mult_adds: float
    num_params: float
    latencies_ms: Mapping[str, float]

    def as_record(self) -> dict[str, float]:
        """The row as a flat dict, with a column per runtime."""
        record = {name: value for name, value in self._asdict().items() if name != "latencies_ms"}
        return record | {f"{runtime}_ms": value for runtime, value in self.latencies_ms.items()}


def benchmark(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Measure the latency of all widths at all input sizes, or of one trained model; write a table and a plot."""
    keep_freed_memory()
    options = arguments.options
    runtimes = [runtime for runtime in RUNTIMES if runtime in options["runtimes"]]
    models = list(_models(task_class, arguments))
    networks = []
    with Progress("building", len(models)) as progress:
        for task, network in models:
            networks.append(_versions(task, network, runtimes))
            progress.describe(f"{task.config.backbone.name}, {task.config.data.input_size} px")
            progress.advance()
    sides = [task.config.data.input_size for task, _ in models]
    sized = [(network, side) for versions, side in zip(networks, sides, strict=True) for network in versions]
    latencies = iter(latencies_ms([call_of(network, side) for network, side in sized]))
    rows = []
    for (task, network), side in zip(models, sides, strict=True):
        cost, width = inference_cost(network, side), parse_name(task.config.backbone.name).width_mult
        measured = {runtime: next(latencies) for runtime in runtimes}
        rows.append(Row(width, side, cost.mult_adds / 1e6, cost.num_params / 1e6, measured))
    folder = out_folder(models[0][0], "benchmark", out=options["out"])
    records = [row.as_record() for row in rows]
    write_csv(folder / TABLE, records)
    _draw(rows, runtimes, folder / PICTURE)
    if options["json"]:
        print(json.dumps(records, indent=2))
    else:
        _print(rows, runtimes)
    print(f"wrote {TABLE} and {PICTURE} to {folder}", file=sys.stderr)
    return 0


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
    return replace_settings(config, {"backbone.name": f"mobilenet_{width:g}", "data.input_size": input_size})


def _versions(task: Task[Any], network: nn.Module, runtimes: Sequence[str]) -> list[nn.Module]:
    """The network in each runtime; all on the CPU, where ONNX Runtime computes."""
    network = inference_copy(network)
    side = task.config.data.input_size
    versions: dict[str, nn.Module] = {"torch": network}
    if set(runtimes) - {"torch"}:
        with tempfile.TemporaryDirectory() as folder:
            floats, int8 = Path(folder) / "floats.onnx", Path(folder) / "int8.onnx"
            try:
                write_onnx(network, side, floats, task.name, task.metadata)
            except ValueError as error:
                raise ValueError(f"{error}; --runtimes torch measures it in PyTorch alone") from error
            versions["onnx"] = ExportedNetwork(ExportedModel(floats))
            if "int8" in runtimes:
                noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
                quantize(floats, int8, list(noise), UNCORRECTED)  # calibration has no effect on the latency
                versions["int8"] = ExportedNetwork(ExportedModel(int8))
    return [versions[runtime] for runtime in runtimes]


def _correlation(rows: Sequence[Row], runtime: str) -> float:
    return float(spearmanr([row.mult_adds for row in rows], [row.latencies_ms[runtime] for row in rows]).statistic)


def _print(rows: Sequence[Row], runtimes: Sequence[str]) -> None:
    table = Table(title=TITLE)
    columns = [f"{RUNTIMES[runtime]}, ms" for runtime in runtimes]
    for column in ("width", "px", "mult-adds, M", "parameters, M", *columns):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.width:g}",
            str(row.input_size),
            f"{row.mult_adds:.1f}",
            f"{row.num_params:.2f}",
            *(f"{row.latencies_ms[runtime]:.2f}" for runtime in runtimes),
        )
    Console().print(table)
    if len(rows) > 2:
        for runtime in runtimes:
            print(f"rank correlation of mult-adds with latency, {RUNTIMES[runtime]}: {_correlation(rows, runtime):.3f}")


def _draw(rows: Sequence[Row], runtimes: Sequence[str], path: Path) -> None:
    """Plot latency against mult-adds: colours are widths, markers are runtimes, labels are input sizes."""
    widths = sorted({row.width for row in rows}, reverse=True)
    with new_plot(path, 9, 7) as figure:
        axes = figure.subplots()
        for index, width in enumerate(widths):
            of_width = sorted((row for row in rows if row.width == width), key=lambda row: row.input_size)
            mult_adds = [row.mult_adds for row in of_width]
            for runtime in runtimes:
                latencies = [row.latencies_ms[runtime] for row in of_width]
                axes.plot(mult_adds, latencies, color=f"C{index}", marker=MARKERS[runtime], linewidth=0.8)
            offset = (0, -5 if index % 2 else 5)  # lines of neighbouring widths overlap
            for row in of_width:
                labelled_ms = 0.0
                for latency_ms in sorted(row.latencies_ms[runtime] for runtime in runtimes):
                    if latency_ms > 1.1 * labelled_ms:  # one label for points that overlap
                        label_point(axes, str(row.input_size), (row.mult_adds, latency_ms), offset, f"C{index}")
                        labelled_ms = latency_ms
            axes.plot([], [], color=f"C{index}", label=f"width {width:g}")
        for runtime in runtimes:
            axes.plot([], [], color="grey", marker=MARKERS[runtime], linestyle="none", label=RUNTIMES[runtime])
        axes.set(title=TITLE, xlabel="mult-adds, M", ylabel="latency, ms", xscale="log", yscale="log")
        format_log_axis(axes.xaxis)
        format_log_axis(axes.yaxis)
        axes.grid(alpha=0.3)
        add_legend_below(figure, len(widths) + len(runtimes), title="labels: input size, px")
