"""The runtimes that `benchmark` times, and a network opened in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tasks.common.benchmark.floor import Precision
from tasks.common.deploy.formats.source import ConversionSource, Open, Run
from tasks.common.deploy.formats.table import FORMATS, check_packages, convert_file
from tasks.common.deploy.inference import inference_copy
from tasks.common.deploy.onnx_file import write_onnx
from tasks.common.deploy.quantization import UNCORRECTED, quantize
from tasks.common.deploy.session import INPUT, open_session
from tasks.common.task import Task


class Runtime(NamedTuple):
    """A way to run a network.

    Attributes:
        title: in tables and plots.
        marker: in plots.
        precision: of its products.
        takes_batches: its files take any number of images at once; those of others one.
        shares_threads: its files have the same number of threads in one process.
    """

    title: str
    marker: str
    precision: Precision = "float32"
    takes_batches: bool = True
    shares_threads: bool = False


TORCH, ONNX, INT8 = "torch", "onnx", "int8"
RUNTIMES = {
    TORCH: Runtime("PyTorch", "o"),
    ONNX: Runtime("ONNX", "s"),
    INT8: Runtime("ONNX, int8", "^", "int8"),
    "openvino": Runtime("OpenVINO", "D"),
    "litert": Runtime("LiteRT", "v", takes_batches=False),
    "executorch": Runtime("ExecuTorch", "P", takes_batches=False, shares_threads=True),
}


class Files(NamedTuple):
    """A network, and its ONNX files with raw outputs.

    Attributes:
        network: on the CPU, without the parts that only training needs.
        onnx: by runtime: in float32, and in 8 bits where that was asked for; none for PyTorch alone.
    """

    network: nn.Module
    onnx: Mapping[str, Path]


def check_runtimes(runtimes: Sequence[str], num_threads: Sequence[int]) -> None:
    """Raise a ValueError if the packages of one are not installed, or it does not run with those numbers of threads."""
    for name in runtimes:
        if name in FORMATS:
            check_packages(name, "--runtimes")
        if RUNTIMES[name].shares_threads and len(num_threads) > 1:
            raise ValueError(
                f"--num_threads: {RUNTIMES[name].title} has one number of threads in a process, got {len(num_threads)} "
                f"numbers; give one of them, or leave {name} out of --runtimes"
            )


def write_files(task: Task[Any], network: nn.Module, runtimes: Sequence[str], folder: Path) -> Files:
    """Write the ONNX files that runtimes need to a folder.

    Raises:
        ValueError: if the network cannot be exported.
    """
    network, side, paths = inference_copy(network), task.config.data.input_size, {}
    if set(runtimes) - {TORCH}:
        paths[ONNX] = folder / "floats.onnx"
        try:
            write_onnx(network, side, paths[ONNX], task.name, task.metadata)
        except ValueError as error:
            raise ValueError(f"{error}; --runtimes {TORCH} measures it in PyTorch alone") from error
    if INT8 in runtimes:
        paths[INT8] = folder / "int8.onnx"
        noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
        quantize(paths[ONNX], paths[INT8], list(noise), UNCORRECTED)  # calibration has no effect on the latency
    return Files(network, paths)


def opener(runtime: str, files: Files, input_size: int, folder: Path) -> Open:
    """What opens a network in a runtime: number of threads -> (images (N, 3, S, S) -> outputs).

    Args:
        runtime: its name.
        files: of the network.
        input_size: S.
        folder: for the files of other formats.

    Raises:
        ValueError: if the network cannot be converted.
    """
    if runtime == TORCH:
        return lambda num_threads: _run_torch(files.network, num_threads)
    if runtime in files.onnx:
        return lambda num_threads: _run_onnx(files.onnx[runtime], num_threads)
    (of_format := folder / runtime).mkdir()
    names = open_session(files.onnx[ONNX]).get_outputs()
    source = ConversionSource(files.network, [output.name for output in names], files.onnx[ONNX], input_size)
    open_file = convert_file(FORMATS[runtime], source, of_format)
    assert open_file is not None, f"{runtime} does not run here"
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
