"""Bias correction: a quantised network whose layers have the mean outputs of the float network.

Rounding shifts the mean of a layer's output channels, most where a channel has few weights, as in depthwise layers, and
the shifts add up from layer to layer. The biases can take them back, layer by layer, on a few images and without
training.

Source: Nagel et al. 2019 (arXiv:1906.04721), section 4.2, with measured means in place of those from batch norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    corrected. Layers without a bias stay as they are.

    Args:
        floats: the network that was quantised.
        quantized: the same with QuantizeLinear and DequantizeLinear nodes, as onnxruntime writes it; changed in place.
        batches: of real images.
    """
    from onnx import numpy_helper

    in_floats = {node.name: node for node in floats.graph.node}
    made_by = {output: node for node in quantized.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    for layer in [node for node in quantized.graph.node if node.op_type in LAYERS]:
        bias = _bias_of(layer, made_by, tensors)
        if bias is None:
            continue
        target = _channel_means(floats, in_floats[layer.name].output[0], batches)
        shift = (target - _channel_means(quantized, layer.output[0], batches)) / bias.scale
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


def layer_errors(floats: ModelProto, quantized: ModelProto, batches: Batches) -> list[tuple[str, float]]:
    """The error of each layer of a quantised network, the largest first, with the name of its kernel.

        sum (y - y')^2 / sum (y - mean y)^2

    with y the outputs of the float network's layer and y' those of the quantised one, after the layers before it.
    """
    in_floats = {node.name: node for node in floats.graph.node}
    errors = {}
    for layer in [node for node in quantized.graph.node if node.op_type in LAYERS]:
        original = in_floats[layer.name]
        expected = np.concatenate(list(_outputs(floats, original.output[0], batches)))
        actual = np.concatenate(list(_outputs(quantized, layer.output[0], batches)))
        errors[original.input[1]] = float(np.square(expected - actual).mean() / max(expected.var(), 1e-12))
    return sorted(errors.items(), key=lambda item: -item[1])


def _channel_means(model: ModelProto, output: str, batches: Batches) -> NDArray[np.float32]:
    """The mean of each channel of a tensor (N, C, ...) over all batches."""
    means, sizes = [], []
    for values in _outputs(model, output, batches):
        means.append(values.reshape(*values.shape[:2], -1).mean((0, 2)))
        sizes.append(len(values))
    weighted: NDArray[np.float32] = np.average(means, axis=0, weights=sizes).astype(np.float32)
    return weighted


def _outputs(model: ModelProto, output: str, batches: Batches) -> Iterator[NDArray[np.float32]]:
    """A tensor (N, ...) for each batch; only what it needs is computed."""
    import onnx
    import onnxruntime

    part = onnx.utils.Extractor(model).extract_model([node.name for node in model.graph.input], [output])
    session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in batches:
        yield session.run(None, batch)[0]
