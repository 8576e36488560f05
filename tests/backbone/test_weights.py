"""Published weights against Keras, timm, torchvision and real images; errors for files that do not fit."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image as Pillow
from torch import nn

from backbone.base import Backbone, Classifier
from backbone.build import build_backbone
from backbone.mobilenet import MobileNet
from backbone.weights import load_weights, open_weights
from datasets.images.read import read_image
from tests.networks import randomise_bn


def load(model: Backbone | Classifier, path: Path) -> None:
    load_weights(model, open_weights(str(path), "mobilenet_1.0", input_size=128))


def keras_file(path: Path, width: float, *, top: bool = True) -> "tuple[Path, object]":
    """A file written by Keras in the format of the published files, and its network."""
    import keras
    from keras.src.legacy.saving import legacy_h5_format

    network = keras.applications.MobileNet(
        alpha=width, weights=None, input_shape=(128, 128, 3), include_top=top, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if layer.name.endswith("_bn"):  # gamma, beta, mean, variance: not the identity
            shape = layer.get_weights()[0].shape
            scale, variance = rng.uniform(0.5, 1.5, (2, *shape))
            shift, mean = rng.normal(0, 0.2, (2, *shape))
            layer.set_weights([scale, shift, mean, variance])
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    return path, network


@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.25])
def test_logits_equal_those_of_keras(width: float, tmp_path: Path, rng: np.random.Generator) -> None:
    path, network = keras_file(tmp_path / "weights.h5", width)
    model = Classifier(MobileNet(width), 1000)
    load(model, path)
    images = rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(images.astype(np.float32) / 127.5 - 1)).cpu()  # type: ignore[operator]
        logits = model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_a_file_without_top_fits_a_backbone_alone(tmp_path: Path) -> None:
    path, _ = keras_file(tmp_path / "weights.h5", 0.25, top=False)
    load(MobileNet(0.25), path)
    with pytest.raises(ValueError, match="head"):
        load(Classifier(MobileNet(0.25), 1000), path)


REAL = [
    ("mobilenet_1_0_224_tf.h5", 1.0, 224, 256, 0.870, 0.968),
    ("mobilenet_7_5_224_tf.h5", 0.75, 224, 256, 0.834, 0.946),
    ("mobilenet_5_0_160_tf.h5", 0.5, 160, 183, 0.680, 0.872),
    ("mobilenet_2_5_224_tf.h5", 0.25, 224, 256, 0.562, 0.796),
]


def center_crop(path: Path, shorter_side: int, size: int) -> np.ndarray:
    """As in the README of the weights; a shift by a pixel changes the half-width network's score by a point."""
    image = Pillow.fromarray(read_image(path))
    scale = shorter_side / min(image.size)
    resized = image.resize((round(image.width * scale), round(image.height * scale)), Pillow.Resampling.BILINEAR)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized)[top : top + size, left : left + size]


@pytest.mark.data
@pytest.mark.parametrize(("name", "width", "size", "shorter_side", "top1", "top5"), REAL, ids=[row[0] for row in REAL])
def test_real_weights_classify_real_images(
    name: str, width: float, size: int, shorter_side: int, top1: float, top5: float, shared: Path
) -> None:
    """Within half a point of top-1 and top-5 in the README of the weights, measured with Keras."""
    folder = shared / "data" / "imagenet_sample"
    wnids = [line.split()[0] for line in (folder / "classes.txt").read_text().splitlines()]
    network = Classifier(MobileNet(width), 1000).eval()
    load(network, shared / "weights" / name)
    files = sorted((folder / "val").glob("*/*"))
    correct = torch.zeros(5)
    for start in range(0, len(files), 50):
        crops = np.stack([center_crop(path, shorter_side, size) for path in files[start : start + 50]])
        with torch.inference_mode():
            ranked = network(torch.from_numpy(crops).permute(0, 3, 1, 2)).topk(5).indices
        class_ids = torch.tensor([wnids.index(path.parent.name) for path in files[start : start + 50]])
        correct += (ranked == class_ids[:, None]).sum(0)
    assert correct[0].item() / len(files) == pytest.approx(top1, abs=0.005)
    assert correct.sum().item() / len(files) == pytest.approx(top5, abs=0.005)


@pytest.mark.parametrize(
    ("timm_name", "name"),
    [
        ("mobilenetv1_100", "mobilenet_1.0"),
        ("mobilenetv1_100h", "mobilenet_1.0_head"),
        ("mobilenetv1_125", "mobilenet_1.25"),
    ],
)
@pytest.mark.parametrize("size", [128, 75])
def test_logits_equal_those_of_timm(timm_name: str, name: str, size: int, tmp_path: Path) -> None:
    network = timm.create_model(timm_name, pretrained=False).eval()
    randomise_bn(network)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    weights = open_weights(str(path), name, input_size=size)
    model = Classifier(build_backbone(name, weights.conventions), 1000).eval()
    load_weights(model, weights)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        expected = network((images.float() / 255 - 0.5) / 0.5)
        torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: torchvision.models.mobilenet_v2(), "mobilenet_v2_1.0"),
        (lambda: torchvision.models.mobilenet_v2(width_mult=0.5), "mobilenet_v2_0.5"),
        (lambda: torchvision.models.mobilenet_v3_large(), "mobilenet_v3_large_1.0"),
        (lambda: torchvision.models.mobilenet_v3_small(width_mult=0.75), "mobilenet_v3_small_0.75"),
    ],
)
def test_logits_equal_those_of_torchvision(build: Callable[[], nn.Module], name: str, tmp_path: Path) -> None:
    network = build().eval()
    randomise_bn(network)
    path = tmp_path / "model.pth"
    torch.save(network.state_dict(), path)
    weights = open_weights(str(path), name, input_size=96)
    model = Classifier(build_backbone(name, weights.conventions), 1000).eval()
    load_weights(model, weights)
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    preset = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = network(preset(images.float() / 255))
        torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=0)
    assert expected.std() > 1e-3


def test_conventions_of_another_publisher_are_refused() -> None:
    with pytest.raises(ValueError, match="no such network with the conventions of torchvision"):
        build_backbone("mobilenet_1.0", "torchvision")


def test_file_of_another_width_is_named(tmp_path: Path) -> None:
    path, _ = keras_file(tmp_path / "weights.h5", 0.25, top=False)
    with pytest.raises(ValueError, match=r"weights\.h5: made for width 0\.25, but the backbone has width 0\.5"):
        load(MobileNet(0.5), path)


def test_another_number_of_classes_and_another_network_are_named(tmp_path: Path) -> None:
    path, _ = keras_file(tmp_path / "weights.h5", 0.25)
    with pytest.raises(ValueError, match=r"weights\.h5: has 1000 classes, but 120 are needed"):
        load(Classifier(MobileNet(0.25), 120), path)
    with pytest.raises(ValueError, match=r"weights\.h5: made for another network: layers\.1\.bn\.bias is missing"):
        load(MobileNet(0.25, variant="conv"), path)


def test_damaged_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    path, _ = keras_file(tmp_path / "weights.h5", 0.25, top=False)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut_tensors = tmp_path / "cut.safetensors"
    safetensors.torch.save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, cut_tensors)
    cut_tensors.write_bytes(cut_tensors.read_bytes()[:200])
    cut_torch = tmp_path / "cut.pth"
    torch.save({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, cut_torch)
    cut_torch.write_bytes(cut_torch.read_bytes()[:300])
    text = tmp_path / "page.pth"
    text.write_text("hi, this is no pickle")  # torch's unpickler takes the h for an instruction
    whole_model = tmp_path / "model.pth"
    torch.save(nn.Linear(2, 2), whole_model)  # would have to be unpickled
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["dense/dense/kernel:0"] = np.zeros((2, 2))
    not_finite = tmp_path / "nan.h5"
    not_finite.write_bytes(path.read_bytes())
    with h5py.File(not_finite, "r+") as file:
        group = file["conv1/conv1"] if "conv1/conv1" in file else file["conv1"]
        next(iter(group.values()))[0, 0, 0, 0] = np.nan
    for file, message in (
        (cut, "not a readable HDF5 file"),
        (cut_tensors, "not a readable safetensors file"),
        (cut_torch, r"not a readable file of weights .* incomplete \(300 bytes\); download it again$"),
        (text, "not a readable file of weights"),
        (whole_model, "not a readable file of weights"),
        (tmp_path / "none.h5", "no such file"),
        (foreign, "not the weights of a MobileNet from Keras, timm or torchvision"),
        (not_finite, "not finite"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            load(MobileNet(0.25), file)
        assert str(file) in str(raised.value)
