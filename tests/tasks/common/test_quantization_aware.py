"""Fine-tuning for 8 bits: what it simulates is what `quantize` writes, and the layers' errors fall."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone.layers import KERAS, ConvBNReLU, DepthwiseSeparable, Normalize
from datasets.types import Image
from tasks.common.deploy.onnx_file import write_onnx
from tasks.common.deploy.quantization import (
    NUM_FIRST_LAYERS,
    UNCORRECTED,
    Quantization,
    fold_batch_norms,
    quantize,
    worst_layers,
)
from tasks.common.model.logits import Logits
from tasks.common.training import quantization_aware
from tasks.common.training.quantization_aware import fine_tune

SIDE, NUM_CLASSES = 32, 10


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Coarse noise, whose features differ between images."""
    random = np.random.default_rng(0)
    return [np.kron(random.integers(0, 256, (4, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8)) for _ in range(76)]


class SmallNetwork(nn.Module):
    """A layer of each kind after the first two, one of them at stride 2."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [DepthwiseSeparable(8, 16, KERAS), DepthwiseSeparable(16, 32, KERAS, stride=2)]
        self.features = nn.Sequential(Normalize(KERAS), ConvBNReLU(3, 8, 3, KERAS, stride=2), *blocks)
        self.head = nn.Linear(32, NUM_CLASSES)

    def forward(self, images: Tensor) -> Logits:
        return Logits(self.head(self.features(images).mean((2, 3))))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """With statistics as after training."""
    torch.manual_seed(0)
    network = SmallNetwork()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0.5, 0.5)
            nn.init.normal_(module.weight, 1.0, 0.2)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def files(network: nn.Module, images: list[Image], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The network, and the fine-tuned one."""
    folder = tmp_path_factory.mktemp("fine_tuned")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization_aware, "BATCH_SIZE", 8)  # more steps
        fine_tuned = fine_tune(network, images[12:], images[:12], seed=0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert fine_tuned.state_dict().keys() == before.keys()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in fine_tuned.modules())
    paths = folder / "floats.onnx", folder / "fine_tuned.onnx"
    for model, path in zip((network, fine_tuned), paths, strict=True):
        write_onnx(model, SIDE, path, "classification", {"class_names": list(map(str, range(NUM_CLASSES)))})
    return paths


def dequantized_kernels(path: Path) -> list[NDArray[np.float32]]:
    """Of all layers in 8 bits."""
    graph = onnx.load(path).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    kernels = []
    for layer in layers[NUM_FIRST_LAYERS:]:
        stored, scale, zero = (tensors[name] for name in made_by[layer.input[1]].input)
        assert stored.dtype == np.int8
        assert not zero.any()
        kernels.append(stored * scale.reshape(-1, *[1] * (stored.ndim - 1)))
    return kernels


def test_kernels_are_on_the_steps_of_the_file_in_8_bits(
    files: tuple[Path, Path], images: list[Image], tmp_path: Path
) -> None:
    """After batch normalisation is folded into them, too."""
    for path, exact in zip(files, (False, True), strict=True):
        quantize(path, tmp_path / "int8.onnx", images[:12], UNCORRECTED)
        graph = fold_batch_norms(path, tmp_path / "folded.onnx").graph
        tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
        floats = [tensors[layer.input[1]] for layer in layers[NUM_FIRST_LAYERS:]]
        for kernel, rounded in zip(floats, dequantized_kernels(tmp_path / "int8.onnx"), strict=True):
            assert np.allclose(kernel, rounded, rtol=1e-4, atol=1e-5 * np.abs(kernel).max()) == exact


def test_errors_of_layers_fall(files: tuple[Path, Path], images: list[Image], tmp_path: Path) -> None:
    floats, fine_tuned = files
    method = Quantization("", is_corrected=False)
    quantize(floats, tmp_path / "before.onnx", images[:12], method)
    quantize(floats, tmp_path / "after.onnx", images[:12], method, fine_tuned=fine_tuned)
    before, after = (
        np.mean([error for _, error in worst_layers(floats, tmp_path / name, images[:10])])
        for name in ("before.onnx", "after.onnx")
    )
    assert after < 0.9 * before
