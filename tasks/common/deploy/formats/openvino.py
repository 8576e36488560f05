"""OpenVINO's intermediate representation, from the ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.types import Image
from tasks.common.deploy.formats.source import FILE, ConversionSource, Open, Run, WriteInt8

# Otherwise OpenVINO computes in 16 bits on processors that have them, and scores differ by several percent.
OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


def convert_to_openvino(source: ConversionSource, folder: Path) -> Open:
    """Write `model.xml` and `model.bin`, with weights in float32; they take any batch size."""
    return _convert(source.onnx, folder)


def int8_for_openvino(_: ConversionSource, __: Sequence[Image]) -> WriteInt8:
    """What writes the same files from a quantised ONNX file, which OpenVINO computes in 8 bits as it is."""
    return _convert


def _convert(onnx: Path, folder: Path) -> Open:
    import openvino

    path = folder / f"{FILE}.xml"
    openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)
    return partial(_open, path)


def _open(path: Path, num_threads: int | None) -> Run:
    import openvino

    core = openvino.Core()
    options = OPTIONS | ({} if num_threads is None else {"INFERENCE_NUM_THREADS": num_threads})

    @cache
    def compiled(num_images: int) -> Any:
        """For a fixed batch size, which is up to 7% faster than for any."""
        model = core.read_model(path)
        shape = model.input().partial_shape
        shape[0] = num_images
        model.reshape(shape)
        return core.compile_model(model, "CPU", options)

    def run(images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        network = compiled(len(images))
        outputs = network(images)
        return [outputs[output] for output in network.outputs]

    return run
