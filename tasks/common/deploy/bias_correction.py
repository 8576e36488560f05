"""Bias correction: a quantised network whose layers have the mean outputs of the float network.

Rounding shifts the mean of a layer's output channels, most where a channel has few weights, as in depthwise layers, and
the shifts add up from layer to layer. The biases can take them back, layer by layer, on a few images and without
training.

Source: Nagel et al. 2019 (arXiv:1906.04721), section 4.2, with measured means in place of those from batch norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.onnx_runtime import import_onnxruntime

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

LAYERS = ("Conv", "Gemm")
Batches = Sequence[dict[str, NDArray[Any]]]  # the network's inputs by name


class _Bias(NamedTuple):
    """A layer's bias: `value * scale`.

    Attributes:
        value: of int32, or of floats where the layer's output is not quantised.
        scale: of each channel.
    """

    value: TensorProto
    scale: NDArray[np.float32]


def correct_biases(floats: ModelProto, quantized: ModelProto, batches: Batches) -> None:
    """Change the biases of a quantised network so that each layer's channels have the float network's mean.

        b_c <- b_c + E[y_c] - E[y'_c]

    with y the outputs of the float network's layer and y' those of the quantised one after the layers before it are
    corrected. Layers without a bias stay as they are, and those that no batch reaches, as a detector's second stage
    where the first one finds no region.

    Args:
        floats: the network that was quantised.
        quantized: the same with QuantizeLinear and DequantizeLinear nodes, as onnxruntime writes it; changed in place.
        batches: of real images.
    """
    from onnx import numpy_helper

    made_by = {output: node for node in quantized.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    layers = [node for node in quantized.graph.node if node.op_type in LAYERS and _bias_of(node, made_by, tensors)]
    if not layers:
        return
    targets = _channel_means(floats, [_original(layer, floats).output[0] for layer in layers], batches)
    for layer, target in zip(layers, targets, strict=True):
        bias = _bias_of(layer, made_by, tensors)
        assert bias is not None
        (mean,) = _channel_means(quantized, [layer.output[0]], batches)
        shift = np.nan_to_num((target - mean) / bias.scale)
        stored = numpy_helper.to_array(bias.value)
        rounded = np.round(shift) if stored.dtype == np.int32 else shift
        bias.value.CopyFrom(numpy_helper.from_array((stored + rounded).astype(stored.dtype), bias.value.name))


def _bias_of(layer: NodeProto, made_by: dict[str, NodeProto], tensors: dict[str, TensorProto]) -> _Bias | None:
    from onnx import numpy_helper

    if len(layer.input) < 3:
        return None
    name = layer.input[2]
    if name in tensors:
        return _Bias(tensors[name], np.ones(1, np.float32))
    dequantize = made_by[name]
    return _Bias(tensors[dequantize.input[0]], numpy_helper.to_array(tensors[dequantize.input[1]]))


class Layer(NamedTuple):
    """The weights of a layer, as floats.

    Attributes:
        kernel: (C_out, ...).
        bias: (C_out,); None for a layer without.
        scales: of the rounded kernel's channels; None in float32.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    scales: NDArray[np.float32] | None


def read_layers(model: ModelProto) -> dict[str, Layer]:
    """The layers of a network by the name of their node, which quantisation keeps."""
    from onnx import numpy_helper

    made_by = {output: node for node in model.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def read(layer: NodeProto) -> Layer:
        bias, name = _bias_of(layer, made_by, tensors), layer.input[1]
        values = None if bias is None else numpy_helper.to_array(bias.value) * bias.scale
        if name in tensors:
            return Layer(numpy_helper.to_array(tensors[name]), values, None)
        rounded, scales = (numpy_helper.to_array(tensors[name]) for name in made_by[name].input[:2])
        scales = scales.reshape(-1)
        return Layer(rounded * scales.reshape(-1, *[1] * (rounded.ndim - 1)), values, scales)

    return {node.name: read(node) for node in model.graph.node if node.op_type in LAYERS}


def layer_errors(floats: ModelProto, quantized: ModelProto, batches: Batches) -> list[tuple[str, float]]:
    """The error of each kernel of a quantised network, the largest first, with its name.

        sum (y - y')^2 / sum (y - mean y)^2

    with y the outputs of the float network's layer and y' those of the quantised one, after the layers before it. Left
    out are layers without a row for each image, since a detector's second stage gets other regions in 8 bits. A kernel
    that several layers share has the largest of their errors.
    """
    layers = [node for node in quantized.graph.node if node.op_type in LAYERS]
    originals = [_original(layer, floats) for layer in layers]
    expected = _outputs(floats, [layer.output[0] for layer in originals], batches)
    actual = _outputs(quantized, [layer.output[0] for layer in layers], batches)
    of_layers = zip(zip(*expected, strict=True), zip(*actual, strict=True), strict=True)
    num_images = sum(len(images) for batch in batches for images in batch.values())
    errors: dict[str, float] = {}
    for original, values in zip(originals, of_layers, strict=True):
        y, quantized_y = map(np.concatenate, values)
        if len(y) != num_images:
            continue
        error, kernel = float(np.square(y - quantized_y).mean() / max(y.var(), 1e-12)), original.input[1]
        errors[kernel] = max(error, errors.get(kernel, 0.0))
    return sorted(errors.items(), key=lambda item: -item[1])


def _original(layer: NodeProto, floats: ModelProto) -> NodeProto:
    """The layer of the float network that a quantised one was made from, which has its name."""
    nodes: dict[str, NodeProto] = {node.name: node for node in floats.graph.node}
    return nodes[layer.name]


def _channel_means(model: ModelProto, names: Sequence[str], batches: Batches) -> list[NDArray[np.float32]]:
    """The mean of each channel of tensors (N, C, ...) over all batches; NaN without any row."""
    sums, num_rows = [np.zeros(1) for _ in names], [0] * len(names)
    for outputs in _outputs(model, names, batches):
        for index, values in enumerate(outputs):
            if len(values):
                sums[index] = sums[index] + len(values) * values.reshape(*values.shape[:2], -1).mean((0, 2))
                num_rows[index] += len(values)
    return [(total / (count or math.nan)).astype(np.float32) for total, count in zip(sums, num_rows, strict=True)]


def _outputs(model: ModelProto, names: Sequence[str], batches: Batches) -> Iterator[list[NDArray[np.float32]]]:
    """Tensors (N, ...) for each batch; only what they need is computed."""
    import onnx

    onnxruntime = import_onnxruntime()

    described = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    for name in set(names) - described:  # a layer before an output, which the quantisation renames
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    inputs = [node.name for node in model.graph.input]
    part = onnx.utils.Extractor(model).extract_model(inputs, list(names))
    session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in batches:
        yield session.run(None, batch)
