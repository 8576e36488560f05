"""What a file for another runtime is made from, and what it becomes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.common.deploy.inference import inference_copy

Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]  # an image (1, 3, S, S), contiguous -> the outputs
Open = Callable[[int | None], Run]  # the number of threads, None for as many as there are cores -> an opened file
WriteInt8 = Callable[[Path, Path], Open]  # a quantised ONNX file, an empty folder -> see `Open`
FILE = "model"  # the files' name without its ending


class ConversionSource(NamedTuple):
    """A network as PyTorch has it, and as an ONNX file.

    Attributes:
        network: uint8 RGB (N, 3, S, S) -> a NamedTuple of tensors.
        names: of these.
        onnx: the file; with its postprocessing, its outputs are other ones.
        input_size: S.
    """

    network: nn.Module
    names: Sequence[str]
    onnx: Path
    input_size: int

    def portable(self) -> nn.Module:
        """A copy as other converters need it: contiguous weights, and a plain tuple of outputs.

        Raises:
            ValueError: if the network has an operator that only its ONNX file has.
        """
        if hasattr(self.network, "onnx_operators"):
            raise ValueError(
                "the suppression between its two stages is an operator of ONNX; use openvino or model.onnx"
            )
        return _PlainOutputs(inference_copy(self.network).to(memory_format=torch.contiguous_format)).eval()

    def example(self) -> Tensor:
        """An input, of one image."""
        return torch.zeros(1, 3, self.input_size, self.input_size, dtype=torch.uint8)


class _PlainOutputs(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(images))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep back what converters print, in Python and below it, and their warnings."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for stream in (1, 2):
            os.dup2(sink.fileno(), stream)
        try:
            nowhere = io.StringIO()
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
        finally:
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
