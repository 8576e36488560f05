"""The runtimes that `benchmark` times, and a network opened in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datasets.types import Image
from tasks.common.benchmark.floor import Precision
from tasks.common.deploy.formats.source import ConversionSource, Open, Run
from tasks.common.deploy.formats.table import FORMATS, convert_file, int8_writer
from tasks.common.deploy.inference import inference_copy
from tasks.common.deploy.onnx_file import write_onnx
from tasks.common.deploy.quantization import NUM_FIRST_LAYERS, UNCORRECTED, quantize
from tasks.common.deploy.session import INPUT, open_session
from tasks.common.runtime.extras import check_packages
from tasks.common.task import Task


class Runtime(NamedTuple):
    """A way to run a network.

    Attributes:
        title: in tables and plots.
        marker: in plots.
        precision: of its products.
        format: of its files, made from the ONNX file or from the network; None for PyTorch and ONNX Runtime.
        takes_batches: its files take any number of images at once; those of others one.
        shares_threads: its files have the same number of threads in one process.
    """

    title: str
    marker: str
    precision: Precision = "float32"
    format: str | None = None
    takes_batches: bool = True
    shares_threads: bool = False


TORCH = "torch"
ONNX: dict[Precision, str] = {"float32": "onnx", "int8": "int8"}  # those that `predict` uses, too
RUNTIMES = {
    TORCH: Runtime("PyTorch", "o"),
    ONNX["float32"]: Runtime("ONNX", "s"),
    ONNX["int8"]: Runtime("ONNX, int8", "^", "int8"),
    "openvino": Runtime("OpenVINO", "D", format="openvino"),
    "openvino_int8": Runtime("OpenVINO, int8", "d", "int8", format="openvino"),
    "litert": Runtime("LiteRT", "v", format="litert", takes_batches=False),
    "litert_int8": Runtime("LiteRT, int8", "<", "int8", format="litert", takes_batches=False),
    "executorch": Runtime("ExecuTorch", "P", format="executorch", takes_batches=False, shares_threads=True),
}


class Files(NamedTuple):
    """A network, and its ONNX files with raw outputs.

    Attributes:
        network: on the CPU, without the parts that only training needs.
        onnx: those for `predict` that were asked for; none for PyTorch alone.
        int8: by the number of first layers in float32, where a runtime needs another one than ONNX Runtime.
    """

    network: nn.Module
    onnx: Mapping[Precision, Path]
    int8: Mapping[int, Path]


def check_runtimes(runtimes: Sequence[str], num_threads: Sequence[int], batch_sizes: Sequence[int]) -> None:
    """Raise a ValueError if the packages of one are not installed, or it cannot run with those threads or batches."""
    for name in runtimes:
        runtime = RUNTIMES[name]
        if runtime.format is not None:
            check_packages(runtime.format, "--runtimes")
        if runtime.shares_threads and len(num_threads) > 1:
            raise ValueError(
                f"--num_threads: {runtime.title} has one number of threads in a process, got {len(num_threads)} "
                f"numbers; give one of them, or leave {name} out of --runtimes"
            )
        if not runtime.takes_batches and 1 not in batch_sizes:
            sizes = " ".join(map(str, batch_sizes))
            raise ValueError(
                f"--batch_sizes: {runtime.title} takes one image at once, got {sizes}; add 1, or leave {name} out of "
                "--runtimes"
            )


def write_files(task: Task[Any], network: nn.Module, runtimes: Sequence[str], folder: Path) -> Files:
    """Write the ONNX files that runtimes need to a folder.

    Raises:
        ValueError: if the network cannot be exported.
    """
    network, side = inference_copy(network), task.config.data.input_size
    paths: dict[Precision, Path] = {}
    if set(runtimes) - {TORCH}:
        paths["float32"] = folder / "float32.onnx"
        try:
            write_onnx(network, side, paths["float32"], task.name, task.metadata)
        except ValueError as error:
            raise ValueError(f"{error}; --runtimes {TORCH} measures it in PyTorch alone") from error
    int8 = {}
    for number in {_num_first_layers(name) for name in runtimes if RUNTIMES[name].precision == "int8"}:
        int8[number] = folder / f"int8-{number}.onnx"
        quantize(paths["float32"], int8[number], _noise(side), replace(UNCORRECTED, num_first_layers=number))
    if NUM_FIRST_LAYERS in int8:
        paths["int8"] = int8[NUM_FIRST_LAYERS]
    return Files(network, paths, int8)


def _num_first_layers(name: str) -> int:
    form = RUNTIMES[name].format
    return NUM_FIRST_LAYERS if form is None else FORMATS[form].num_first_layers


def _noise(side: int) -> list[Image]:
    """Images for calibration, which have no effect on the latency."""
    return list(np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8))


def opener(name: str, files: Files, input_size: int, folder: Path) -> Open:
    """What opens a network in a runtime: number of threads -> (images (N, 3, S, S) -> outputs).

    Args:
        name: of the runtime.
        files: of the network.
        input_size: S.
        folder: for the files of other formats.

    Raises:
        ValueError: if the network cannot be converted.
    """
    runtime = RUNTIMES[name]
    if name == TORCH:
        return lambda num_threads: _run_torch(files.network, num_threads)
    if runtime.format is None:
        return lambda num_threads: _run_onnx(files.onnx[runtime.precision], num_threads)
    (of_format := folder / name).mkdir()
    form, onnx = FORMATS[runtime.format], files.onnx["float32"]
    outputs = [output.name for output in open_session(onnx).get_outputs()]
    source = ConversionSource(files.network, outputs, onnx, input_size)
    if runtime.precision == "int8":
        return int8_writer(form, source, _noise(input_size))(files.int8[form.num_first_layers], of_format)
    open_file = convert_file(form, source, of_format)
    assert open_file is not None, f"{runtime.title} does not run here"
    return open_file


def _run_torch(network: nn.Module, num_threads: int | None) -> Run:
    def run(images: NDArray[np.uint8]) -> Any:
        if num_threads is not None and torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
        with torch.inference_mode():
            return network(torch.from_numpy(images))

    return run


def _run_onnx(path: Path, num_threads: int | None) -> Run:
    session = open_session(path, num_threads)
    return lambda images: session.run(None, {INPUT: images})
