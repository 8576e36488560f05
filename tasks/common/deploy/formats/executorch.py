"""ExecuTorch with XNNPACK, from PyTorch."""

from __future__ import annotations

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

    # All files in a process share the threads, and keep them from when they are loaded.
    if num_threads not in (None, portable_lib._threadpool_get_thread_count()):
        portable_lib._unsafe_reset_threadpool(num_threads)
    method = Runtime.get().load_program(path).load_method("forward")

    def run(image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        return [output.numpy().copy() for output in method.execute([torch.from_numpy(image)])]

    return run
