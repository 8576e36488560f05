"""Weight files of Keras, timm and torchvision as state dicts of `base.Classifier`. Nothing is unpickled."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from backbone.names import ConventionsName

State = dict[str, Tensor]

_BLOCK_PARTS = {"dw": "depthwise", "pw": "pointwise"}
_TORCH_NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_TIMM_PARTS = {"conv_dw": "depthwise.conv", "bn1": "depthwise.bn", "conv_pw": "pointwise.conv", "bn2": "pointwise.bn"}
_TIMM_FIRST_BLOCKS = (1, 2, 4, 6, 12)  # index of the first layer of each of timm's five stages
_TIMM_HEAD_LAYER = 14
MAX_HDF5_BYTES = 2**30  # of all arrays: many times those of the largest MobileNet


def read_state(path: Path) -> tuple[State, ConventionsName]:
    """Read weights, and the conventions they need, from Keras's HDF5 or a state dict of timm or torchvision.

    Raises:
        ValueError: if the file is missing, damaged, or not of a MobileNet.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if h5py.is_hdf5(path) or path.suffix in (".h5", ".hdf5"):
        arrays = _read_hdf5(path)
        stem, rename, conventions = "conv1.kernel", _keras_name, "keras"
    else:
        arrays = read_tensors(path)
        is_timm = "conv_stem.weight" in arrays
        stem = "conv_stem.weight" if is_timm else "features.0.0.weight"
        rename, conventions = (_timm_name, "timm") if is_timm else (_torchvision_name, "torchvision")
    if stem not in arrays:
        raise ValueError(f"{path}: not the weights of a MobileNet from Keras, timm or torchvision")
    return rename_weights(path, arrays, rename), conventions  # type: ignore[return-value]  # a literal


def read_tensors(path: Path) -> State:
    """Read a state dict from a file of safetensors or torch, without renaming.

    Raises:
        ValueError: if the file is missing, damaged, or not a state dict.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def rename_weights(path: Path, tensors: State, rename: Callable[[str], str]) -> State:
    """The weights of a file by their names in our network, without batch counters.

    Args:
        path: of the file, for messages.
        tensors: by the file's names.
        rename: a name in the file -> ours; raises an error of a look-up for names of other networks.

    Raises:
        ValueError: if a weight is damaged, or of another network.
    """
    state: State = {}
    for name, tensor in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue  # not a weight
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: damaged: {name} has values that are not finite")
        try:
            state[rename(name)] = tensor
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{path}: made for another network: unexpected weight {name}") from error
    return state


def _read_hdf5(path: Path) -> State:
    """Keras's arrays by `layer.weight`, with kernels in torch's layout.

    Kernels are transposed from (H, W, in, out) and, depthwise, (H, W, in, 1) to (out, in / groups, H, W).
    """
    arrays: dict[str, np.ndarray] = {}
    num_bytes = 0

    def visit(name: str, item: h5py.HLObject) -> None:  # not called for links, which may lead to other files
        nonlocal num_bytes
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError(f"{name} is stored in another file")
            num_bytes += item.nbytes  # of a compressed array many times as many as in the file
            if num_bytes > MAX_HDF5_BYTES:
                raise ValueError(f"{name} has {item.nbytes:,} bytes, and all arrays more than {MAX_HDF5_BYTES:,}")
            layer, *_, weight = name.removeprefix("model_weights/").split("/")
            arrays[f"{layer}.{weight.removesuffix(':0')}"] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
        return {name: _to_torch_layout(name, array) for name, array in arrays.items()}
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable HDF5 file of weights ({error})") from error


def _to_torch_layout(name: str, array: np.ndarray) -> Tensor:
    if name.startswith("conv_preds"):  # a 1x1 convolution on the pooled features
        return torch.from_numpy(array).squeeze().t()
    if array.ndim == 4:  # depthwise kernels are named `kernel` or `depthwise_kernel`, depending on Keras's version
        array = array.transpose((2, 3, 0, 1) if name.startswith("conv_dw") else (3, 2, 0, 1))
    return torch.from_numpy(array)


def _keras_name(name: str) -> str:
    layer, weight = name.split(".")
    if layer == "conv_preds":
        return {"kernel": "head.weight", "bias": "head.bias"}[weight]
    part = "bn" if layer.endswith("_bn") else "conv"
    words = layer.removesuffix("_bn").split("_")  # conv1, conv_dw_3, conv_pw_3
    layer_name = "0" if words == ["conv1"] else f"{words[2]}.{_BLOCK_PARTS[words[1]]}"
    return f"backbone.layers.{layer_name}.{part}.{_TORCH_NAMES[weight]}"


def _read_safetensors(path: Path) -> State:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


class CompressedFileError(ValueError):
    """A file of torch with compressed contents."""


def refuse_compressed(path: Path) -> None:
    """Refuse a zip file with more in it than its own size: torch does not compress, so its files never have.

    Raises:
        CompressedFileError: (a ValueError) naming the file.
        Exception: of many types, if it is no zip file.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > path.stat().st_size or any(m.compress_type for m in members):
        raise CompressedFileError(
            f"{path}: its contents are compressed, which torch's files are not; save it again by torch"
        )


def _is_whole(value: object) -> bool:
    """Whether a value is a tensor with each element in the file: not one number that is said to be a million."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
        return False
    return value.device.type == "cpu" and value.nbytes <= value.untyped_storage().nbytes()


def _read_torch(path: Path) -> State:
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"  # others are of torch before 1.6, or no files of torch
        source: Path | BytesIO = path
        if is_zip:
            refuse_compressed(path)
        else:  # from memory, where a damaged length takes no more than there is
            source = BytesIO(path.read_bytes())
        content = torch.load(source, map_location="cpu", weights_only=True)
    except (CompressedFileError, MemoryError):
        raise
    except Exception as error:  # of any type, when the file is no pickle
        raise ValueError(
            f"{path}: not a readable file of weights (.h5, .safetensors, or torch's); it is of another kind, or "
            f"incomplete ({path.stat().st_size:,} bytes); download it again"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(k, str) and _is_whole(v) for k, v in content.items()):
        raise ValueError(f"{path}: expected a state dict of names and tensors")
    return content


def _timm_name(name: str) -> str:
    module, weight = name.rsplit(".", 1)
    if module == "classifier":
        return f"head.{weight}"
    layers = {
        "conv_stem": "0.conv",
        "bn1": "0.bn",
        "conv_head": f"{_TIMM_HEAD_LAYER}.conv",
        "bn2": f"{_TIMM_HEAD_LAYER}.bn",
    }
    if module in layers:
        return f"backbone.layers.{layers[module]}.{weight}"
    _, stage, block, part = module.split(".")
    return f"backbone.layers.{_TIMM_FIRST_BLOCKS[int(stage)] + int(block)}.{_TIMM_PARTS[part]}.{weight}"


def _torchvision_name(name: str) -> str:
    match = re.fullmatch(r"(features|classifier)\.(.+)", name)
    if match is None:
        raise KeyError(name)
    return ("backbone.layers." if match[1] == "features" else "head.") + match[2]
