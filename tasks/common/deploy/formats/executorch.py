"""ExecuTorch with XNNPACK, from PyTorch."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.common.deploy.formats.source import FILE, ConversionSource, Open, Run


def convert_to_executorch(source: ConversionSource, folder: Path) -> Open:
    """Write `model.pte`: uint8 RGB (1, 3, S, S) -> the raw outputs."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    path = folder / f"{FILE}.pte"
    program = torch.export.export(source.portable(), (source.example(),))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
    return partial(_open, path)


def _open(path: Path, num_threads: int | None) -> Run:
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    wanted = num_threads or os.cpu_count()
    method = Runtime.get().load_program(path).load_method("forward")

    def run(image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        if portable_lib._threadpool_get_thread_count() != wanted:  # all files in a process share the threads
            portable_lib._unsafe_reset_threadpool(wanted)
        return [output.numpy().copy() for output in method.execute([torch.from_numpy(image)])]

    return run
