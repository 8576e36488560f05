"""OpenVINO's intermediate representation, from the ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.common.deploy.formats.source import FILE, ConversionSource, Run

# Otherwise OpenVINO computes in 16 bits on processors that have them, and scores differ by several percent.
OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


def convert_to_openvino(source: ConversionSource, folder: Path) -> Run:
    """Write `model.xml` and `model.bin`, with weights in float32; they take any batch size."""
    import openvino

    path = folder / f"{FILE}.xml"
    openvino.save_model(openvino.convert_model(source.onnx), path, compress_to_fp16=False)
    compiled = openvino.Core().compile_model(path, "CPU", OPTIONS)

    def run(image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        outputs = compiled(image)
        return [outputs[output] for output in compiled.outputs]

    return run
