"""FaceNet's published weights: facenet-pytorch's files for Inception-ResNet-v1."""

from __future__ import annotations

import zipfile
from pathlib import Path

from torch import Tensor

from backbone.formats import read_tensors
from tasks.embedding.inception_resnet import InceptionResnetV1

INPUT_SIZE = 160  # of the published weights
_SUFFIXES = (".pt", ".pth", ".safetensors")
_MARK = "conv2d_1a.conv.weight"  # the first tensor, which no MobileNet has


def read_facenet(path: Path) -> dict[str, Tensor] | None:
    """The state of `InceptionResnetV1`, without the classifier; None if it is another kind of file.

    Raises:
        ValueError: if tensors are missing, or have other shapes.
    """
    if path.suffix not in _SUFFIXES or (path.suffix != ".safetensors" and not zipfile.is_zipfile(path)):
        return None
    try:
        tensors = read_tensors(path)
    except ValueError:
        return None  # whatever it is, another reader says what is wrong
    if _MARK not in tensors:
        return None
    state = {name: value for name, value in tensors.items() if not name.startswith("logits.")}
    expected = InceptionResnetV1().state_dict()
    for name in sorted(expected.keys() | state.keys()):
        shapes = [tuple(tensors[name].shape) if name in tensors else "no such tensor" for tensors in (expected, state)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{path}: not FaceNet's weights: {name}: expected {shapes[0]}, got {shapes[1]}")
    return state
