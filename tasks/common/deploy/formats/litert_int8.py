"""LiteRT's file in 8 bits: the layers, rounded kernels and corrected biases of a quantised ONNX file.

By itself ai-edge-quantizer rounds all that it can: the normalised pixels, the mean of the last feature map and the
logits too, which costs most of the agreement. And it cuts off a bias that int32 cannot hold at its scale, as that of a
channel whose kernel is nearly zero. So it gets a recipe that names the operators, and kernels that are rounded already.
"""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.types import Image
from tasks.common.deploy.bias_correction import Layer, read_layers
from tasks.common.deploy.quantization import fold_batch_norms

MAX_KERNEL, MAX_ACTIVATION, MAX_BIAS = 127, 255, 2**30  # in steps of their scales; int32 would hold twice the bias
TINY = 1e-12
MAX_DIFFERENCE = 1e-3  # of a kernel from the same layer's in the ONNX file, relative to its largest value
# The axes of an ONNX kernel, (C_out, C_in / groups, height, width), in LiteRT's order.
AXES = {"CONV_2D": (0, 2, 3, 1), "DEPTHWISE_CONV_2D": (1, 2, 3, 0)}
LINEAR = "FULLY_CONNECTED"
BETWEEN = {"ADD": 2, "PAD": 1}  # the number of feature maps that they read; in 8 bits where all of these are
KERNEL, BIAS = 1, 2  # inputs of a layer


class _Operator(NamedTuple):
    """An operator, with the tensors that it reads, without those left out, and its first output."""

    kind: str
    encoded: Any
    inputs: list[Any]
    output: Any

    @property
    def pattern(self) -> str:
        """A regular expression for this one in a recipe."""
        return f"^{re.escape(self.output.name.decode())};?$"


class Int8Writer:
    """Writes a network as LiteRT files in 8 bits, each after a quantised ONNX file."""

    def __init__(self, floats: Path, onnx: Path, images: Sequence[Image]) -> None:
        """Find the ranges of the activations.

        Args:
            floats: the network as a LiteRT file in float32.
            onnx: the same as an ONNX file, with raw outputs.
            images: preprocessed images (S, S, 3) for calibration.

        Raises:
            ValueError: if the two files do not have the same convolutions.
        """
        from ai_edge_litert.tools import flatbuffer_utils
        from ai_edge_quantizer.calibrator import Calibrator
        from ai_edge_quantizer.utils.qsv_utils import min_max_update

        self._model = flatbuffer_utils.read_model_with_mutable_tensors(floats)
        layers = read_layers(fold_batch_norms(onnx, floats.with_suffix(".onnx")))
        self._names = self._match(layers)
        # The default is a moving average of the ranges in single images, which cuts off large values.
        calibrator = Calibrator(str(floats), num_threads=os.cpu_count() or 1, qsv_update_func=min_max_update)
        ((signature, names),) = calibrator.get_signature_list().items()
        (name,) = names["inputs"]
        calibrator.calibrate({signature: [{name: image[None]} for image in images]}, self._recipe(set(layers)))
        self._ranges = calibrator.get_model_qsvs()

    def write(self, quantized: Path, path: Path) -> None:
        """Write a file in 8 bits.

        Args:
            quantized: the ONNX file that `quantize` made from the network's.
            path: the file to write.
        """
        import onnx
        from ai_edge_litert.tools import flatbuffer_utils
        from ai_edge_quantizer.quantizer import Quantizer

        layers, model = read_layers(onnx.load(quantized)), copy.deepcopy(self._model)
        for operator in _operators(model):
            name = self._names.get(operator.output.name)
            if name is not None:
                layer = layers[name]
                kernel = holding_biases(layer, self._range(operator.inputs[0]))
                _replace_weights(model, operator, kernel, layer.bias)
        _drop_unused(model)
        in_int8 = {name for name, layer in layers.items() if layer.scales is not None}
        quantizer = Quantizer(
            flatbuffer_utils.convert_object_to_bytearray(model), self._recipe(in_int8).get_quantization_recipe()
        )
        result = quantizer.quantize(copy.deepcopy(self._ranges), enable_progress_report=False)
        path.write_bytes(result.quantized_model)

    def _range(self, tensor: Any) -> float:
        """The length of a tensor's range, which zero belongs to; infinite for one that stays in float32."""
        found = self._ranges.get(tensor.name.decode())
        return max(found["max"].max(), 0) - min(found["min"].min(), 0) if found else math.inf

    def _match(self, layers: dict[str, Layer]) -> dict[bytes, str]:
        """The operators, by their outputs, that are layers of the ONNX file: they have the same kernels."""
        names = {}
        for operator in _operators(self._model):
            if operator.kind not in (*AXES, LINEAR):
                continue
            kernel = _values(self._model, operator.inputs[KERNEL])
            found = min(layers, key=lambda name: _difference(kernel, _in_order(layers[name].kernel, operator.kind)))
            if _difference(kernel, _in_order(layers[found].kernel, operator.kind)) <= MAX_DIFFERENCE:
                names[operator.output.name] = found
            elif operator.kind in AXES:  # linear layers without a bias are no Gemm there
                raise ValueError(f"its {operator.kind} with a kernel {kernel.shape} is not in the ONNX file")
        return names

    def _recipe(self, in_int8: set[str]) -> Any:
        """What is in 8 bits. Linear layers round their inputs by the range of each image, and give float32."""
        from ai_edge_quantizer.recipe_manager import RecipeManager

        recipe, rounded = RecipeManager(), set()
        for operator in _operators(self._model):
            if operator.kind == LINEAR:
                recipe.add_dynamic_config(operator.pattern, operator.kind, 8)
            elif self._names.get(operator.output.name) in in_int8 or (
                operator.kind in BETWEEN
                and all(tensor.name in rounded for tensor in operator.inputs[: BETWEEN[operator.kind]])
            ):
                recipe.add_static_config(operator.pattern, operator.kind, 8, 8)
                rounded.add(operator.output.name)
        return recipe


def _operators(model: Any) -> Iterator[_Operator]:
    from ai_edge_litert.tools import flatbuffer_utils

    (graph,) = model.subgraphs
    for encoded in graph.operators:
        kind = flatbuffer_utils.opcode_to_name(model, encoded.opcodeIndex)
        inputs = [graph.tensors[index] for index in encoded.inputs if index >= 0]
        yield _Operator(kind, encoded, inputs, graph.tensors[encoded.outputs[0]])


def _values(model: Any, tensor: Any) -> NDArray[np.float32]:
    return np.frombuffer(model.buffers[tensor.buffer].data, np.float32).reshape(tensor.shape)


def _in_order(kernel: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """An ONNX kernel as LiteRT has it."""
    if kind == LINEAR:
        return kernel.reshape(len(kernel), -1)
    return kernel.transpose(AXES[kind]) if kernel.ndim == len(AXES[kind]) else kernel


def _difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)) if a.shape == b.shape else math.inf


def holding_biases(layer: Layer, input_range: float) -> NDArray[np.float32]:
    """The kernel, with the first weight of a channel raised where the channel's others are too small for its bias.

    A channel's scale is its largest weight / 127, and its bias is stored in int32 in steps of this scale times the
    input's. A raised weight adds less than 1e-4 of the bias.
    """
    if layer.scales is None or layer.bias is None:
        return layer.kernel
    kernel = layer.kernel.copy()
    rows, scale = kernel.reshape(len(kernel), -1), max(input_range, TINY) / MAX_ACTIVATION
    smallest = MAX_KERNEL * np.abs(layer.bias) / (scale * MAX_BIAS)
    is_small = np.abs(rows).max(1) < smallest
    rows[is_small, 0] = smallest[is_small]
    return kernel


def _replace_weights(model: Any, operator: _Operator, kernel: NDArray[np.float32], bias: Any) -> None:
    """Give an operator other weights, without a bias if there is none; operators that share its tensors keep them."""
    weights = {KERNEL: _in_order(kernel, operator.kind)} | ({} if bias is None else {BIAS: bias})
    (graph,) = model.subgraphs
    for position, values in weights.items():
        tensor = copy.copy(graph.tensors[operator.encoded.inputs[position]])
        tensor.name = b"weights_%d" % len(graph.tensors)  # those of LiteRT are hundreds of bytes long
        tensor.buffer, buffer = len(model.buffers), copy.copy(model.buffers[tensor.buffer])
        buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
        model.buffers.append(buffer)
        operator.encoded.inputs[position] = len(graph.tensors)
        graph.tensors.append(tensor)


def _drop_unused(model: Any) -> None:
    """Empty the tensors that no operator reads or writes; a constant output, as a detector's anchors, stays."""
    (graph,) = model.subgraphs
    used = {index for encoded in graph.operators for index in (*encoded.inputs, *encoded.outputs)}
    used |= {*graph.inputs, *graph.outputs}
    unused = {index: tensor for index, tensor in enumerate(graph.tensors) if index not in used}
    for index, tensor in unused.items():
        tensor.name = b"unused_%d" % index
    for number in {tensor.buffer for tensor in unused.values()} - {
        graph.tensors[index].buffer for index in used if index >= 0
    }:
        model.buffers[number].data = None
