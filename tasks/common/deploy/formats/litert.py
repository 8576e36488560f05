"""LiteRT, which was TensorFlow Lite, from PyTorch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.types import Image
from tasks.common.deploy.formats.litert_int8 import Int8Writer
from tasks.common.deploy.formats.source import FILE, ConversionSource, Open, Run, WriteInt8


class _ChannelsLast(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images.permute(0, 3, 1, 2))


def convert_to_litert(source: ConversionSource, folder: Path) -> Open:
    """Write `model.tflite`: uint8 RGB (1, S, S, 3) -> the raw outputs, `output_0` the first of them."""
    path = folder / f"{FILE}.tflite"
    _convert(source, path)
    return partial(_open, path)


def int8_for_litert(source: ConversionSource, images: Sequence[Image]) -> WriteInt8:
    """What writes the same file in 8 bits, after a quantised ONNX file.

    Args:
        source: with the ONNX file in float32.
        images: preprocessed images (S, S, 3) for calibration.
    """
    with tempfile.TemporaryDirectory() as folder:
        floats = Path(folder) / f"{FILE}.tflite"
        _convert(source, floats)
        writer = Int8Writer(floats, source.onnx, images)

    def write(onnx: Path, folder: Path) -> Open:
        path = folder / f"{FILE}.tflite"
        writer.write(onnx, path)
        return partial(_open, path)

    return write


def _convert(source: ConversionSource, path: Path) -> None:
    import litert_torch

    example = source.example().permute(0, 2, 3, 1)
    litert_torch.convert(_ChannelsLast(source.portable()).eval(), (example,)).export(str(path))


def _open(path: Path, num_threads: int | None) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=num_threads or os.cpu_count())
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    (image_details,) = signature.get_input_details().values()
    outputs = signature.get_output_details()
    indices = [outputs[f"output_{number}"]["index"] for number in range(len(outputs))]

    def run(image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """By index, since a call of the signature takes longer; OpenCV interleaves 20 times as fast as NumPy."""
        interpreter.set_tensor(image_details["index"], cv2.merge(list(image[0]))[None])
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in indices]

    return run
