"""The published face network computes what its folded arrays state, from either form of its file."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from backbone import faceres
from backbone.build import build_backbone
from backbone.faceres import read_faceres

MEAN_BGR = (103.939, 116.779, 123.68)
STRIDED = (2, 4, 6, 12)


def random_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays under the names of the published file, of about unit gain."""
    arrays: dict[str, np.ndarray] = {}

    def layer(name: str, shape: tuple[int, ...], kind: str = "kernel") -> None:
        fan_in = np.prod(shape[:-1]) if kind == "kernel" else 9
        arrays[f"{name}/{kind}"] = rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float16)
        arrays[f"{name}/bias"] = rng.normal(0.5, 0.5, shape[2] if kind != "kernel" else shape[-1]).astype(np.float16)

    layer("conv1", (3, 3, 3, 32))
    arrays["conv1/kernel"] /= np.float16(64)  # of pixels up to 255
    channels = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for index, (before, after) in enumerate(itertools.pairwise(channels), 1):
        layer(f"conv_dw_{index}", (3, 3, before, 1), "depthwise_kernel")
        layer(f"conv_pw_{index}", (1, 1, before, after))
    for name, shape in (("feats", (1024, 256)), ("gender_pred", (256, 1)), ("age_pred", (256, 100))):
        layer(name, shape)
    return arrays


def forward(arrays: dict[str, np.ndarray], images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Identity, probability of male and of the ages, from the arrays alone: BGR, no batch normalisation."""

    def convolve(x: Tensor, name: str, kind: str, stride: int) -> Tensor:
        kernel = torch.from_numpy(arrays[f"{name}/{kind}"].astype(np.float32))
        is_depthwise = kind == "depthwise_kernel"
        weight = kernel.permute(2, 3, 0, 1) if is_depthwise else kernel.permute(3, 2, 0, 1)
        bias = torch.from_numpy(arrays[f"{name}/bias"].astype(np.float32))
        padding = (kernel.shape[0] - 1) // 2
        x = functional.pad(x, (0, 1, 0, 1) if stride == 2 else (padding,) * 4)  # 'SAME' at even sizes
        return functional.conv2d(x, weight, bias, stride, groups=x.shape[1] if is_depthwise else 1).clamp(0, 6)

    def linear(x: Tensor, name: str) -> Tensor:
        kernel, bias = (torch.from_numpy(arrays[f"{name}/{kind}"].astype(np.float32)) for kind in ("kernel", "bias"))
        return x @ kernel + bias

    x = convolve(images.float().flip(1) - torch.tensor(MEAN_BGR)[:, None, None], "conv1", "kernel", 2)
    for index in range(1, 14):
        x = convolve(x, f"conv_dw_{index}", "depthwise_kernel", 2 if index in STRIDED else 1)
        x = convolve(x, f"conv_pw_{index}", "kernel", 1)
    identity = x.mean((2, 3))
    hidden = linear(identity, "feats").relu()
    return identity, linear(hidden, "gender_pred").sigmoid()[:, 0], linear(hidden, "age_pred").softmax(1)


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path


def check_equal(path: Path, arrays: dict[str, np.ndarray], images: Tensor) -> None:
    network = read_faceres(path)
    assert network is not None
    backbone = build_backbone(faceres.NAME, faceres.CONVENTIONS)
    backbone.load_state_dict(network.backbone)
    with torch.inference_mode():
        features = backbone.eval()(images)
        expected, *_ = forward(arrays, images)
    assert expected.std() > 0.01
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_folded_batch_normalisation_and_bgr_become_our_network(rng: np.random.Generator, tmp_path: Path) -> None:
    arrays = random_arrays(rng)
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    check_equal(save(tmp_path / "net.npz", arrays), arrays, images)


def test_the_binary_file_as_published_is_the_same_network(rng: np.random.Generator, tmp_path: Path) -> None:
    """TensorFlow.js's form: the heads first, depthwise kernels with their factor, constants after each layer."""
    arrays, parts = random_arrays(rng), []
    for name in ("age_pred", "feats", "gender_pred"):
        parts += [arrays[f"{name}/kernel"], arrays[f"{name}/bias"]]
    for name in ("conv1", *(f"conv_{kind}_{index}" for index in range(1, 14) for kind in ("dw", "pw"))):
        is_depthwise = "dw" in name
        parts.append(arrays[f"{name}/{'depthwise_kernel' if is_depthwise else 'kernel'}"])
        if is_depthwise:
            factor = np.float16(2) ** rng.integers(-2, 3, arrays[f"{name}/bias"].shape).astype(np.float16)
            parts.append(factor)
            arrays[f"{name}/depthwise_kernel"] = arrays[f"{name}/depthwise_kernel"] * factor[:, None]
        parts += [arrays[f"{name}/bias"], np.float16([0, 6])]
    content = b"".join(part.tobytes() for part in parts) + np.int32([1, 2]).tobytes()
    (tmp_path / "faceres.bin").write_bytes(content)
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    check_equal(tmp_path / "faceres.bin", arrays, images)
    (tmp_path / "half.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"half\.bin: [\d,]+ bytes, but the face network's faceres\.bin has [\d,]+: "):
        read_faceres(tmp_path / "half.bin")
    torch.save({"features.0.0.weight": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert read_faceres(tmp_path / "pytorch_model.bin") is None


def test_other_and_damaged_files_are_named(rng: np.random.Generator, tmp_path: Path) -> None:
    arrays = random_arrays(rng)
    whole = save(tmp_path / "net.npz", arrays).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half.npz: damaged: not a readable .npz file; download it again$"):
        read_faceres(tmp_path / "half.npz")
    np.savez_compressed(tmp_path / "flipped.npz", **arrays)
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[1000:1050] = b"\xff" * 50
    (tmp_path / "flipped.npz").write_bytes(content)
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    save(tmp_path / "words.npz", arrays | {"feats/bias": np.array(["a"] * 256)})
    for name in ("flipped", "array", "words"):
        with pytest.raises(ValueError, match=f"{name}.npz: damaged: not a readable .npz file; download it again$"):
            read_faceres(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match=r"other.npz: not the weights of the face network faceres: age_pred/bias is "):
        read_faceres(save(tmp_path / "other.npz", {"layer/kernel": np.zeros(3)}))
    wide = arrays | {"feats/kernel": np.zeros((1024, 512), np.float16)}
    with pytest.raises(ValueError, match=r"feats/kernel is \(1024, 512\), expected \(1024, 256\)$"):
        read_faceres(save(tmp_path / "wide.npz", wide))
    broken = arrays | {"feats/bias": np.full(256, np.nan, np.float16)}
    with pytest.raises(ValueError, match=r"broken.npz: damaged: feats/bias has values that are not finite"):
        read_faceres(save(tmp_path / "broken.npz", broken))
    (tmp_path / "net.pth").write_bytes(whole)
    assert read_faceres(tmp_path / "net.pth") is None


@pytest.mark.data
def test_the_published_weights_equal_a_plain_forward_pass(shared: Path, rng: np.random.Generator) -> None:
    path = shared / "weights" / "tasks" / "faceres_mobilenet_v1_224.npz"
    with np.load(path) as file:
        arrays = dict(file)
    check_equal(path, arrays, torch.from_numpy(rng.integers(0, 256, (1, 3, 224, 224), dtype=np.uint8)))
