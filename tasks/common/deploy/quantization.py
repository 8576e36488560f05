"""Quantisation of an exported network to 8 bits, calibrated on real images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from datasets.onnx_runtime import import_onnxruntime
from datasets.types import Image
from tasks.common.deploy.bias_correction import LAYERS, correct_biases, layer_errors
from tasks.common.deploy.onnx_file import write_with_properties
from tasks.common.deploy.session import INPUT, open_session, properties_of, stack_images

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LAST_LAYERS = ["Gemm", "MatMul"]  # their outputs stay float32, since decoding compares them with each other
QUANTIZED = ["Conv", "Add", "Clip", "Relu", *LAST_LAYERS]
# The first layers stay in float32. They have few channels and large maps, which take longer in 8 bits than in float32:
# without them the networks are 10% to 22% faster in ONNX Runtime. They also agree better with the float network.
# OpenVINO is faster in 8 bits throughout, see `formats/table.py`.
NUM_FIRST_LAYERS = 2
BATCH_SIZE = 10  # images at once, for the means of the layers
MAX_CORRECTION_IMAGES = 50  # twice as many change nothing
MAX_ERROR_IMAGES = 10


@dataclass(frozen=True)
class Quantization:
    """A way to quantise a network.

    Attributes:
        title: in words.
        is_corrected: whether the biases are corrected, see `correct_biases`.
        percentile: of an activation's values, which its range covers; None for all of them.
        num_float_layers: so many layers with the largest error, see `layer_errors`, stay in float32, and so do those
            after them.
        num_first_layers: so many of the first ones, too.
    """

    title: str
    is_corrected: bool = True
    percentile: float | None = None
    num_float_layers: int = 0
    num_first_layers: int = NUM_FIRST_LAYERS


UNCORRECTED = Quantization("min-max ranges", is_corrected=False)
CORRECTED = Quantization("min-max ranges, biases corrected")
FINE_TUNED = Quantization("fine-tuned for 8 bits, min-max ranges, biases corrected")
REMEDIES = (
    Quantization("99.99th-percentile ranges, biases corrected", percentile=99.99),
    Quantization("worst layer in float32, biases corrected", num_float_layers=1),
    Quantization("3 worst layers in float32, biases corrected", num_float_layers=3),
)


def quantize(
    floats: Path,
    path: Path,
    images: Sequence[Image],
    method: Quantization = CORRECTED,
    worst: Sequence[str] = (),
    fine_tuned: Path | None = None,
) -> None:
    """Quantise an exported network to int8 but for its first layers: per-channel weights, per-tensor activations.

    Depthwise layers need per-channel scales, because the ranges of their channels differ widely.

    Args:
        floats: the float32 file, from `write_onnx`.
        path: the file to write.
        images: preprocessed images (S, S, 3) for calibration.
        method: how.
        worst: names of kernels by descending error, from `worst_layers` of another quantisation.
        fine_tuned: a float32 file of the same network with weights that were trained for 8 bits, to take in place of
            its own; corrected biases have the means of `floats` all the same.

    Source: Krishnamoorthi 2018 (arXiv:1806.08342), section 3; Jacob et al. 2018 (arXiv:1712.05877), section 2.
    """
    import onnx  # slow to import, as the next ones

    import_onnxruntime()  # before a module of it is imported
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(_batches(images, 1))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._batches, None)

    properties = properties_of(open_session(floats))
    options: dict[str, Any] = {"OpTypesToExcludeOutputQuantization": LAST_LAYERS}
    ranges = CalibrationMethod.MinMax
    if method.percentile is not None:
        ranges, options = CalibrationMethod.Percentile, options | {"CalibPercentile": method.percentile}
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        reference = fold_batch_norms(floats, prepared)
        if fine_tuned is not None:
            fold_batch_norms(fine_tuned, prepared)
        layers = [node for node in reference.graph.node if node.op_type in LAYERS]
        in_float32 = [layer for layer in layers if layer.input[1] in worst[: method.num_float_layers]]
        excluded = [
            node.name for node in (*layers[: method.num_first_layers], *in_float32, *_followers(reference, in_float32))
        ]
        excluded += _outside_feature_maps(reference)
        outputs = {output.name for output in reference.graph.output}  # are compared with each other, as LAST_LAYERS'
        excluded += [node.name for node in reference.graph.node if node.op_type == "Conv" and node.output[0] in outputs]
        quantize_static(
            prepared,
            quantized,
            Reader(),
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=excluded,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=ranges,
            extra_options=options,
        )
        model = onnx.load(quantized)
        if method.is_corrected:
            correct_biases(reference, model, _batches(images[:MAX_CORRECTION_IMAGES], BATCH_SIZE))
            onnx.save(model, quantized)
        write_with_properties(quantized, path, properties)


def worst_layers(floats: Path, quantized: Path, images: Sequence[Image]) -> list[tuple[str, float]]:
    """The error of each layer of a quantised file on a few images, the largest first, see `layer_errors`."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        reference = fold_batch_norms(floats, Path(folder) / "prepared.onnx")
        return layer_errors(reference, onnx.load(quantized), _batches(images[:MAX_ERROR_IMAGES], BATCH_SIZE))


def fold_batch_norms(floats: Path, path: Path) -> ModelProto:
    """Write a network with its batch normalisation folded into the layers, as quantisation needs it, and load it."""
    import onnx

    import_onnxruntime()
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(floats, path, skip_symbolic_shape=True)
    return onnx.load(path)


def _followers(model: ModelProto, layers: Sequence[NodeProto]) -> list[NodeProto]:
    """The nodes after some layers, up to and including the next layers.

    With a layer in float32 between quantised ones, ONNX Runtime takes the DequantizeLinear before and
    the QuantizeLinear after it for a sign that it may be quantised, and rounds the kernel itself, with one scale for
    all channels: its optimiser WeightBiasQuantization. That ruins depthwise layers; of dogs at width 0.25 none is
    recognised any more. With the next layers in float32, too, there is no QuantizeLinear behind.
    """
    found: list[NodeProto] = []
    ahead = {output for layer in layers for output in layer.output}
    for node in model.graph.node:  # in topological order
        if not ahead.isdisjoint(node.input):
            found.append(node)
            ahead |= set() if node.op_type in LAYERS else set(node.output)
    return found


def _outside_feature_maps(model: ModelProto) -> list[str]:
    """The names of nodes that add or clip anything but feature maps, such as boxes, which need all their bits."""
    values = [*model.graph.value_info, *model.graph.output]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    return [
        node.name for node in model.graph.node if node.op_type in ("Add", "Clip") and ranks.get(node.output[0]) != 4
    ]


def _batches(images: Sequence[Image], size: int) -> list[dict[str, NDArray[Any]]]:
    """The inputs of an exported network."""
    return [{INPUT: stack_images(images[first : first + size])} for first in range(0, len(images), size)]
