"""External networks as ONNX files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from backbone.layers import IMAGENET_MEAN, IMAGENET_STD
from tasks.common.deploy.session import open_session

Layout = Literal["nchw", "nhwc"]


class OnnxNetwork(nn.Module):
    """An ONNX file with one image input; only its first output is used.

    Attributes:
        input_size: side of the square input in pixels.
        num_outputs: length of the flattened output of an image.
        output_shape: of an image, not flattened.
    """

    def __init__(
        self,
        path: Path,
        *,
        input_size: int | None = None,
        layout: Layout | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """Open a file.

        Args:
            path: the file.
            input_size: side in pixels; None to read it from the file.
            layout: of the input; None to read it from the file.
            mean: subtracted from R, G, B of 0 to 255; by default ImageNet's, as usual for networks from torch.
            std: R, G, B are divided by it afterwards.

        Raises:
            ValueError: if the file is missing or damaged, or does not have one image input.
        """
        super().__init__()
        self._session = open_session(path)
        inputs = self._session.get_inputs()
        shape: list[Any] = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or inputs[0].type != "tensor(float)":
            described = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
            raise ValueError(f"{path}: expected one input of floats, (N, 3, S, S) or (N, S, S, 3), got {described}")
        self._name, batch_size = inputs[0].name, shape[0]
        self._batch_size = batch_size if isinstance(batch_size, int) else None
        self._nchw = shape[1] == 3 if layout is None else layout == "nchw"
        if layout is None and (shape[1] == 3) == (shape[3] == 3):
            raise ValueError(f"{path}: the layout of its input {shape} is ambiguous; set its layout")
        sides = shape[2:] if self._nchw else shape[1:3]
        fixed = [side for side in sides if isinstance(side, int)]
        if input_size is None and (len(fixed) < 2 or fixed[0] != fixed[1]):
            raise ValueError(f"{path}: its input {shape} has no fixed square size; set its input size")
        self.input_size: int = input_size or fixed[0]
        if any(side != self.input_size for side in fixed):
            raise ValueError(f"{path}: its input is {shape}, not {self.input_size} x {self.input_size} pixels")
        for name, value in (("mean", mean), ("std", std)):
            tensor = torch.tensor(value, dtype=torch.float32).reshape(3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)
        digest = hashlib.sha256(path.read_bytes())
        digest.update(repr((self._nchw, tuple(mean), tuple(std))).encode())
        self._digest = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
        side = self.input_size
        values = self._run(np.zeros((1, 3, side, side) if self._nchw else (1, side, side, 3), np.float32))
        self.output_shape: tuple[int, ...] = values.shape[1:]
        self.num_outputs: int = values[0].size

    def get_extra_state(self) -> Tensor:
        """A hash of the file and the preprocessing, in place of the weights, which are in ONNX Runtime."""
        return self._digest

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, S, S) -> (N, num_outputs)."""
        pixels = (images.float() - self.get_buffer("mean")) / self.get_buffer("std")
        values = (pixels if self._nchw else pixels.permute(0, 2, 3, 1)).cpu().numpy()
        parts = (
            np.split(values, range(self._batch_size, len(values), self._batch_size)) if self._batch_size else [values]
        )
        outputs = np.concatenate([self._run(part) for part in parts])
        return torch.from_numpy(outputs.reshape(len(images), -1)).to(images.device)

    def _run(self, part: np.ndarray) -> np.ndarray:
        """Run part of a batch; for a fixed batch size, it is padded with copies of the last image."""
        missing = (self._batch_size or len(part)) - len(part)
        padded = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
        output: np.ndarray = self._session.run(None, {self._name: np.ascontiguousarray(padded)})[0]
        return output[: len(part)]


def is_onnx(network: nn.Module) -> bool:
    """Whether a network, or a part of it, is an ONNX file."""
    return any(isinstance(module, OnnxNetwork) for module in network.modules())
