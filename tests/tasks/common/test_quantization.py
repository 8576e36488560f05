"""Quantisation to 8 bits: what bias correction promises of every layer, and of the outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from backbone.base import Backbone
from backbone.layers import KERAS
from backbone.mobilenet import MobileNet
from datasets.types import Image
from tasks.classification.config import ClassificationConfig
from tasks.classification.model import ClassificationModel
from tasks.classification.task import ClassificationTask
from tasks.common.deploy.bias_correction import correct_biases, read_layers
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.onnx_file import ExportedNetwork, write_onnx
from tasks.common.deploy.postprocessing import OPSET, parse_graph
from tasks.common.deploy.quantization import (
    CORRECTED,
    NUM_FIRST_LAYERS,
    REMEDIES,
    UNCORRECTED,
    Quantization,
    fold_batch_norms,
    quantize,
    worst_layers,
)
from tasks.common.deploy.session import INPUT, open_session, stack_images

SIDE, NUM_CLASSES, NUM_STAGES = 64, 10, 6


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Coarse noise, since the mean over fine noise is the same in every image."""
    random = np.random.default_rng(0)
    return [np.kron(random.integers(0, 256, (4, 4, 3), np.uint8), np.ones((16, 16, 1), np.uint8)) for _ in range(12)]


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNet's first layers, with statistics in the batch norms, without which the convolutions have no bias."""
    torch.manual_seed(0)
    layers = MobileNet(0.25).layers[:NUM_STAGES]
    network = ClassificationModel(Backbone(layers, width_mult=0.25, conventions=KERAS), NUM_CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0.5, 0.5)
            nn.init.normal_(module.weight, 1.0, 0.2)
    path = tmp_path_factory.mktemp("floats") / "model.onnx"
    metadata = ClassificationTask.with_num_classes(ClassificationConfig(), NUM_CLASSES).metadata
    write_onnx(network, SIDE, path, "classification", metadata)
    return path


@pytest.fixture(scope="module")
def uncorrected(floats: Path, images: list[Image]) -> Path:
    path = floats.with_name("uncorrected.onnx")
    quantize(floats, path, images, UNCORRECTED)
    return path


def logits(path: Path, images: list[Image]) -> NDArray[np.float32]:
    batch = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
    values: NDArray[np.float32] = ExportedNetwork(ExportedModel(path))(batch).logits.numpy()
    return values


def test_layers_are_read_as_they_were_rounded(floats: Path, uncorrected: Path, tmp_path: Path) -> None:
    original, rounded = read_layers(fold_batch_norms(floats, tmp_path / "folded.onnx")), read_layers(
        onnx.load(uncorrected)
    )  # fmt: skip
    assert list(original) == sorted(rounded, key=list(original).index)
    assert [layer.scales is None for layer in original.values()] == [True] * len(original)
    for number, (name, layer) in enumerate(original.items()):
        kernel, bias, scales = rounded[name]
        assert layer.bias is not None
        assert bias is not None
        np.testing.assert_allclose(bias, layer.bias, atol=1e-3)
        if number < NUM_FIRST_LAYERS:
            assert scales is None
            np.testing.assert_array_equal(kernel, layer.kernel)
        else:
            assert scales is not None
            errors = np.abs(kernel - layer.kernel).reshape(len(kernel), -1).max(1)
            assert np.all(errors <= 0.501 * scales)
            assert errors.max() > 0


def test_outputs_have_the_means_of_the_float_network(floats: Path, uncorrected: Path, images: list[Image]) -> None:
    corrected = floats.with_name("corrected.onnx")
    quantize(floats, corrected, images)
    target = logits(floats, images)
    before, after = (np.abs(logits(path, images).mean(0) - target.mean(0)).max() for path in (uncorrected, corrected))
    assert after < 1e-4  # the last layer's bias has floats
    assert before > 100 * after
    assert 0.9 < np.corrcoef(target.ravel(), logits(corrected, images).ravel())[0, 1] < 1
    assert corrected.stat().st_size == uncorrected.stat().st_size


def test_all_layers_but_the_first_two_are_in_8_bits(uncorrected: Path) -> None:
    """A convolution, five depthwise separable ones and the classifier; the first two kernels are floats."""
    model = onnx.load(uncorrected)
    stored = {tensor.name for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert [layer.input[1] in stored for layer in layers] == [True, True, *[False] * (2 * (NUM_STAGES - 1))]


def kernels(path: Path) -> dict[str, NDArray[np.generic]]:
    """By the name of the float network's: int8, or float32 where the layer is."""
    graph = onnx.load(path).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    names = [stored.get(node.input[1], node.input[1]) for node in graph.node if node.op_type in ("Conv", "Gemm")]
    return {name.removesuffix("_quantized"): tensors[name] for name in names}


def test_errors_of_layers_are_those_of_their_outputs(floats: Path, uncorrected: Path, images: list[Image]) -> None:
    """The last layer's outputs are the network's: its error by hand."""
    errors = worst_layers(floats, uncorrected, images)
    assert [error for _, error in errors] == sorted((error for _, error in errors), reverse=True)
    assert {name for name, _ in errors} == set(kernels(uncorrected))
    y, quantized_y = (logits(path, images[:10]) for path in (floats, uncorrected))
    by_hand = np.square(y - quantized_y).mean() / y.var()
    # Optimised, ONNX Runtime multiplies integers and rounds elsewhere.
    assert dict(errors)[list(kernels(uncorrected))[-1]] == pytest.approx(by_hand, rel=0.1)
    assert worst_layers(floats, floats, images)[0][1] < 1e-9


@pytest.mark.parametrize("method", REMEDIES[1:], ids=lambda method: str(method.num_float_layers))
def test_the_worst_layers_and_those_after_them_stay_in_float32(
    method: Quantization, floats: Path, uncorrected: Path, images: list[Image], tmp_path: Path
) -> None:
    worst = [name for name, _ in worst_layers(floats, uncorrected, images)][: method.num_float_layers]
    quantize(floats, tmp_path / "model.onnx", images, method, worst)
    before, after = kernels(uncorrected), kernels(tmp_path / "model.onnx")
    order = list(before)  # MobileNet's layers are a chain
    positions = [order.index(name) for name in worst]
    expected = {*worst, *(order[position + 1] for position in positions if position + 1 < len(order))}
    assert {name for name in order if after[name].dtype == np.float32} == expected | set(order[:NUM_FIRST_LAYERS])


def test_onnx_runtime_leaves_float32_layers_as_they_are(floats: Path, images: list[Image], tmp_path: Path) -> None:
    """Its optimiser would round a depthwise kernel with one scale for all channels, and the outputs would be others."""
    path, layer = tmp_path / "model.onnx", "backbone.layers.3.depthwise.conv.weight"
    method = Quantization("one in float32", is_corrected=False, num_float_layers=1)
    quantize(floats, path, images, method, [layer])
    assert kernels(path)[layer].dtype == np.float32
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx").graph.initializer
    kept = [onnx.numpy_helper.to_array(tensor) for tensor in optimised if tensor.data_type == onnx.TensorProto.FLOAT]
    kernel = np.sort(kernels(path)[layer], axis=None)
    assert any(set(kernel) <= set(values.ravel()) for values in kept)  # in blocks of channels, padded


def test_percentiles_cut_off_rare_values(floats: Path, uncorrected: Path, images: list[Image], tmp_path: Path) -> None:
    """No range is wider than that of all values, and some are narrower."""
    quantize(floats, tmp_path / "model.onnx", images, REMEDIES[0])
    scales = [
        {tensor.name: float(onnx.numpy_helper.to_array(tensor)) for tensor in onnx.load(path).graph.initializer
         if tensor.name.endswith("_scale") and not tensor.dims}
        for path in (uncorrected, tmp_path / "model.onnx")
    ]  # fmt: skip
    ratios = [scales[1][name] / scales[0][name] for name in scales[0]]
    assert max(ratios) < 1 + 1e-3
    assert min(ratios) < 0.99


def test_corrected_biases_stay_as_they_are(floats: Path, uncorrected: Path, images: list[Image]) -> None:
    """The correction is a projection: a second one finds nothing to change but by rounding."""
    batches = [{INPUT: np.stack(images).transpose(0, 3, 1, 2).copy()}]
    model, folded = onnx.load(uncorrected), fold_batch_norms(floats, floats.with_name("folded.onnx"))
    first = biases(model)
    correct_biases(folded, model, batches)
    second = biases(model)
    correct_biases(folded, model, batches)
    third = biases(model)
    assert any(np.abs(second[name] - first[name]).max() > 1 for name in first)
    for name in first:
        assert np.abs(third[name].astype(np.float64) - second[name]).max() <= (
            1 if second[name].dtype == np.int32 else 1e-4
        )


def biases(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3:
            name = node.input[2].removesuffix("_DequantizeLinear_Output")
            name = name if name in tensors else f"{name}_quantized"
            found[name] = onnx.numpy_helper.to_array(tensors[name])
    assert found
    return found


def test_second_stage_has_other_rows_than_images(tmp_path: Path) -> None:
    """Its errors are not compared row by row, and where it has no row its bias stays."""
    graph = parse_graph(
        """
        network (uint8[N, 3, 8, 8] images)
          => (float[N, 4, 8, 8] p_maps, float[R, 4, 8, 8] p_first, float[Q, 4, 8, 8] p_none)
        {
          pixels = Cast <to = 1> (images)
          stem = Conv (pixels, kernel)
          stage = Conv (stem, first_square)
          maps = Conv (stage, second_square, bias)
          first = Compress <axis = 0> (maps, yes)
          of_first = Conv (first, third_square, bias)
          empty = Compress <axis = 0> (maps, no)
          none = Conv (empty, fourth_square, bias)
          p_maps = Sigmoid (maps)
          p_first = Sigmoid (of_first)
          p_none = Sigmoid (none)
        }
        """,
        kernel=np.random.default_rng(0).random((4, 3, 1, 1), np.float32),
        **{
            f"{name}_square": np.random.default_rng(seed).random((4, 4, 1, 1), np.float32)
            for seed, name in enumerate(("first", "second", "third", "fourth"), 1)
        },
        bias=np.ones(4, np.float32),
        yes=np.array([True]),
        no=np.array([False]),
    )
    floats = save(graph, tmp_path / "floats.onnx")
    images = list(np.random.default_rng(3).integers(0, 256, (2, 8, 8, 3), np.uint8))
    found = []
    for method in (UNCORRECTED, CORRECTED):
        quantize(floats, tmp_path / "quantized.onnx", images, method)
        found.append(biases(onnx.load(tmp_path / "quantized.onnx")))
    changed = [not np.array_equal(found[0][name], found[1][name]) for name in found[0]]
    assert changed == [True, True, False]
    errors = worst_layers(floats, tmp_path / "quantized.onnx", images)
    assert {name for name, _ in errors} == {"kernel", "first_square", "second_square"}


def test_boxes_keep_all_their_bits(tmp_path: Path) -> None:
    """Of the sums, feature maps are in 8 bits, with 256 values at most, and boxes (1, N, 4) are not."""
    graph = parse_graph(
        """
        network (uint8[N, 3, 64, 64] images) => (float[N, 4, 64, 64] maps, float[N, 4096, 4] boxes)
        {
          pixels = Cast <to = 1> (images)
          features = Conv (pixels, kernel)
          again = Conv (features, square)
          layers = Conv (again, square)
          maps = Add (layers, features)
          rows = Reshape (maps, shape)
          boxes = Add (rows, anchors)
        }
        """,
        kernel=np.random.default_rng(0).random((4, 3, 1, 1), np.float32),
        square=np.random.default_rng(1).random((4, 4, 1, 1), np.float32),
        shape=np.array([0, 4096, 4]),
        anchors=np.random.default_rng(2).random((1, 4096, 4), np.float32),
    )
    floats, quantized = save(graph, tmp_path / "floats.onnx"), tmp_path / "quantized.onnx"
    images = list(np.random.default_rng(3).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8))
    quantize(floats, quantized, images, UNCORRECTED)
    maps, boxes = open_session(quantized).run(None, {INPUT: stack_images(images[:1])})
    assert len(np.unique(maps)) <= 256
    assert len(np.unique(boxes)) > 4096


def save(graph: onnx.GraphProto, path: Path) -> Path:
    for node in graph.node:
        node.name = node.output[0]
    opset = onnx.helper.make_opsetid("", OPSET)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


def test_a_network_without_biases_is_quantised(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)
    graph = parse_graph(
        "g (float[N, 3, 8, 8] images) => (float[N, 3, 8, 8] maps) { y = Conv (images, weight) maps = Relu (y) }",
        weight=weight,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    before = model.SerializeToString()
    correct_biases(model, model, [{INPUT: np.zeros((1, 3, 8, 8), np.float32)}])
    assert model.SerializeToString() == before
