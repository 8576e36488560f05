"""The networks of a compression study, open in the runtimes that measure their latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.common.benchmark.runtimes import ONNX, RUNTIMES, TORCH, check_runtimes, opener, write_files
from tasks.common.deploy.session import INPUT, open_session
from tasks.common.task import Task

Call = Callable[[], Any]
ONNX_RUNTIME = ONNX["float32"]


def check_columns(runtimes: Sequence[str]) -> list[str]:
    """The runtimes of a study's table, each once, in the order of `RUNTIMES`.

    Raises:
        ValueError: if the packages of one are not installed, or ONNX Runtime, which the plot shows, is not among them.
    """
    if ONNX_RUNTIME not in runtimes:
        raise ValueError(
            f"--runtimes: expected {ONNX_RUNTIME} and perhaps others, since the plot shows its latency; "
            f"got {' '.join(runtimes)}"
        )
    chosen = [name for name in RUNTIMES if name in runtimes]
    check_runtimes(chosen, [torch.get_num_threads()], [1])
    return chosen


def open_row(
    task: Task[Any], network: nn.Module, exported: Path, in_int8: bool, runtimes: Sequence[str], folder: Path
) -> tuple[dict[str, Call], list[str]]:
    """What computes one image of a row in each runtime that has it, and why another one has not.

    Args:
        task: of the network.
        network: in float32.
        exported: the row's ONNX file, which ONNX Runtime computes with its postprocessing; others compute raw outputs.
            Without it only PyTorch has the row.
        in_int8: the row is in 8 bits, as are then the files of the other runtimes; PyTorch and ExecuTorch have none.
        runtimes: names in `RUNTIMES`, of float32.
        folder: an empty one for files, which must be there as long as the calls are used.
    """
    side, num_threads = task.config.data.input_size, torch.get_num_threads()
    image = np.zeros((1, 3, side, side), np.uint8)
    calls, reasons = dict[str, Call](), []
    if exported.is_file():
        calls[ONNX_RUNTIME] = partial(open_session(exported, num_threads).run, None, {INPUT: image})
    others = [name for name in runtimes if name == TORCH or (name != ONNX_RUNTIME and exported.is_file())]
    names = {runtime: f"{runtime}_int8" if in_int8 else runtime for runtime in others}
    names = {runtime: name for runtime, name in names.items() if name in RUNTIMES}
    files = write_files(task, network, list(names.values()), folder)
    for runtime, name in names.items():
        try:
            calls[runtime] = partial(opener(name, files, side, folder)(num_threads), image)
        except ValueError as error:  # such as a detector with an operator that only ONNX files have
            reasons.append(str(error))
    return calls, reasons
