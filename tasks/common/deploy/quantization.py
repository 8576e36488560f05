"""Quantisation of an exported network to 8 bits, calibrated on real images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.types import Image
from tasks.common.deploy.bias_correction import correct_biases
from tasks.common.deploy.onnx_file import write_with_properties
from tasks.common.deploy.session import INPUT, open_session

LAST_LAYERS = ["Gemm", "MatMul"]  # their outputs stay float32, since decoding compares them with each other
QUANTIZED = ["Conv", "Add", "Clip", "Relu", *LAST_LAYERS]
BATCH_SIZE = 10  # images at once, for the means of the layers
MAX_CORRECTION_IMAGES = 50  # twice as many change nothing


def quantize(floats: Path, path: Path, images: Sequence[Image]) -> None:
    """Quantise an exported network to int8: per-channel weights, per-tensor activations, corrected biases.

    Depthwise layers need per-channel scales, because the ranges of their channels differ widely.

    Args:
        floats: the float32 file, from `write_onnx`.
        path: the file to write.
        images: preprocessed images (S, S, 3) for calibration.

    Source: Krishnamoorthi 2018 (arXiv:1806.08342), section 3; Jacob et al. 2018 (arXiv:1712.05877), section 2.
    """
    import onnx  # slow to import, as the next ones
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(_batches(images, 1))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._batches, None)

    properties = open_session(floats).get_modelmeta().custom_metadata_map
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(floats, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            Reader(),
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": LAST_LAYERS},
        )
        model = onnx.load(quantized)
        correct_biases(onnx.load(prepared), model, _batches(images[:MAX_CORRECTION_IMAGES], BATCH_SIZE))
        onnx.save(model, quantized)
        write_with_properties(quantized, path, properties)


def _batches(images: Sequence[Image], size: int) -> list[dict[str, NDArray[Any]]]:
    """The inputs of an exported network."""
    return [
        {INPUT: np.ascontiguousarray(np.stack(images[first : first + size]).transpose(0, 3, 1, 2))}
        for first in range(0, len(images), size)
    ]
