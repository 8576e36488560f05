"""Published MobileNet weights: the 16 Keras checkpoints, by name or by path.

They are legacy HDF5 files, read with h5py: nothing is unpickled. They need the conventions `layers.KERAS`, which are
the default of `MobileNet`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import urllib.request
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from backbone.mobilenet import STEM, Classifier, MobileNet

KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
KERAS_WIDTHS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}
KERAS_SIZES = (128, 160, 192, 224)

_BLOCK_PARTS = {"dw": "depthwise", "pw": "pointwise"}
_TORCH_NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_KERAS_NAMES = frozenset(_TORCH_NAMES.values())


def load_pretrained(model: MobileNet | Classifier, pretrained: str, *, input_size: int) -> Path:
    """Load published weights into a backbone, or into a backbone and its ImageNet classifier.

    Args:
        model: gets the weights, in place.
        pretrained: `keras` for the published file that fits best, downloaded once, or the path of such a file.
        input_size: the side in pixels that the network will be used at; picks among the published files.

    Returns:
        The file that was loaded.

    Raises:
        ValueError: if there is no such file, it is damaged, or it was made for another network.
    """
    backbone = model.backbone if isinstance(model, Classifier) else model
    path = fetch_keras(keras_file_name(backbone.width_mult, input_size)) if pretrained == "keras" else Path(pretrained)
    published = read_keras(path)
    if not isinstance(model, Classifier):
        body = {name: value for name, value in published.items() if name.startswith("backbone.")}
        published = {name.removeprefix("backbone."): value for name, value in body.items()}
    expected = {name: value for name, value in model.state_dict().items() if name.split(".")[-1] in _KERAS_NAMES}
    have, want = _stem_channels(published), _stem_channels(expected)
    if have != want:
        raise ValueError(
            f"{path}: made for width {have / STEM.channels:g}, but the backbone has width {backbone.width_mult:g}"
        )
    for name in sorted(expected.keys() | published.keys()):
        shapes = [tuple(state[name].shape) if name in state else "nothing" for state in (published, expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{path}: made for another network: {name} is {shapes[0]} there, {shapes[1]} here")
    model.load_state_dict(published, strict=False)  # what it lacks is not learnt: normalisation, batch counts
    return path


def keras_file_name(width_mult: float, input_size: int) -> str:
    """The published file for that width and the input size nearest to `input_size`.

    Raises:
        ValueError: if nothing was published for that width.
    """
    if width_mult not in KERAS_WIDTHS:
        widths = ", ".join(map(str, KERAS_WIDTHS))
        raise ValueError(f"no Keras weights were published for width {width_mult}; there are {widths}")
    nearest = min(KERAS_SIZES, key=lambda size: (abs(size - input_size), -size))
    return f"mobilenet_{KERAS_WIDTHS[width_mult]}_{nearest}_tf.h5"


def fetch_keras(file_name: str) -> Path:
    """The published file in torch's cache of checkpoints, downloaded and checked against the server's hash if need be.

    Raises:
        ValueError: if it is neither in the cache nor can be downloaded whole; says where to put it by hand.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if path.exists():
        return path
    url = KERAS_URL + file_name
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            data, hashes = response.read(), response.headers.get_all("x-goog-hash", [])
    except (OSError, http.client.HTTPException) as error:  # the second when a part of it arrived
        raise ValueError(
            f"{url}: download failed ({error}); put the file at {path} or pass its path as --backbone.pretrained"
        ) from error
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    if f"md5={md5}" not in [part.strip() for line in hashes for part in line.split(",")]:
        raise ValueError(f"{url}: what arrived does not have the hash that the server states ({hashes}); try again")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return path


def read_keras(path: Path) -> dict[str, Tensor]:
    """A Keras MobileNet file as a state dict of `Classifier`, or of it without the head where the file has no top.

    Kernels change from (H, W, in, out) and, depthwise, (H, W, in, 1) to torch's (out, in / groups, H, W).

    Raises:
        ValueError: if the file is not there, damaged, or not a MobileNet's.
    """
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, weight = name.removeprefix("model_weights/").split("/")
            arrays[f"{layer}.{weight.removesuffix(':0')}"] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except (OSError, RuntimeError, KeyError) as error:
        reason = "there is no such file" if not path.exists() else f"not a readable HDF5 file ({error})"
        raise ValueError(f"{path}: {reason}") from error
    if "conv1.kernel" not in arrays:
        raise ValueError(f"{path}: no layer 'conv1' in it; expected the weights of a Keras MobileNet (v1)")

    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: damaged: {name} holds values that are not finite")
        try:
            state[_torch_name(*name.split("."))] = _to_torch(name, array)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{path}: not a MobileNet's: it has a {name}") from error
    return state


def _stem_channels(state: dict[str, Tensor]) -> int:
    return next(value for name, value in state.items() if name.endswith("layers.0.conv.weight")).shape[0]


def _torch_name(layer: str, weight: str) -> str:
    if layer == "conv_preds":  # a 1x1 convolution on the pooled features
        return {"kernel": "head.weight", "bias": "head.bias"}[weight]
    part = "bn" if layer.endswith("_bn") else "conv"
    words = layer.removesuffix("_bn").split("_")  # conv1, conv_dw_3, conv_pw_3
    place = "0" if words == ["conv1"] else f"{words[2]}.{_BLOCK_PARTS[words[1]]}"
    return f"backbone.layers.{place}.{part}.{_TORCH_NAMES[weight]}"


def _to_torch(name: str, array: np.ndarray) -> Tensor:
    if name.startswith("conv_preds"):
        return torch.from_numpy(array).squeeze().t()
    if array.ndim == 4:  # a depthwise kernel is called `kernel` or `depthwise_kernel`, by the Keras that wrote it
        array = array.transpose((2, 3, 0, 1) if name.startswith("conv_dw") else (3, 2, 0, 1))
    return torch.from_numpy(array)
