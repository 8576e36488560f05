"""Quantisation to 8 bits: what bias correction promises of every layer, and of the outputs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from backbone.build import build_backbone
from datasets.types import Image
from tasks.classification.model import ClassificationModel
from tasks.common.deploy import quantization
from tasks.common.deploy.bias_correction import correct_biases
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.onnx_file import ExportedNetwork, write_onnx
from tasks.common.deploy.quantization import quantize
from tasks.common.deploy.session import INPUT

SIDE, NUM_CLASSES = 64, 10


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Coarse noise, since the mean over fine noise is the same in every image."""
    random = np.random.default_rng(0)
    return [np.kron(random.integers(0, 256, (4, 4, 3), np.uint8), np.ones((16, 16, 1), np.uint8)) for _ in range(12)]


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose batch norms have statistics, without which its convolutions have no bias."""
    torch.manual_seed(0)
    network = ClassificationModel(build_backbone("mobilenet_0.25"), NUM_CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0.5, 0.5)
            nn.init.normal_(module.weight, 1.0, 0.2)
    path = tmp_path_factory.mktemp("floats") / "model.onnx"
    write_onnx(network, SIDE, path, "classification", {"class_names": list(map(str, range(NUM_CLASSES)))})
    return path


@pytest.fixture(scope="module")
def uncorrected(floats: Path, images: list[Image]) -> Path:
    path = floats.with_name("uncorrected.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization, "correct_biases", lambda *_: None)
        quantize(floats, path, images)
    return path


def logits(path: Path, images: list[Image]) -> NDArray[np.float32]:
    batch = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
    values: NDArray[np.float32] = ExportedNetwork(ExportedModel(path))(batch).logits.numpy()
    return values


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
    """27 convolutions and the classifier, Table 1; the kernels of the first two are floats."""
    model = onnx.load(uncorrected)
    stored = {tensor.name for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert [layer.input[1] in stored for layer in layers] == [True, True, *[False] * 26]


def test_corrected_biases_stay_as_they_are(floats: Path, uncorrected: Path, images: list[Image]) -> None:
    """The correction is a projection: a second one finds nothing to change but by rounding."""
    batches = [{INPUT: np.stack(images).transpose(0, 3, 1, 2).copy()}]
    model, folded = onnx.load(uncorrected), onnx.load(folded_floats(floats))
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


def folded_floats(floats: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = floats.with_name("folded.onnx")
    quant_pre_process(floats, path, skip_symbolic_shape=True)
    return path


def biases(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3:
            name = node.input[2].removesuffix("_DequantizeLinear_Output")
            name = name if name in tensors else f"{name}_quantized"
            found[name] = onnx.numpy_helper.to_array(tensors[name])
    assert found
    return found
