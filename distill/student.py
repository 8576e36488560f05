"""The student in training: the task's network, and layers that project its outputs to the teacher's shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tasks.common.model.training_wrapper import TrainingWrapper


class StudentOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        own: the network's outputs, for the task's own loss.
        projected: the first of them, projected to the shape of the teacher's.
        hint: (N, C, H, W), the feature map after the adapter; empty without `hint_stride`.
    """

    own: Any
    projected: Tensor
    hint: Tensor


class Student(TrainingWrapper):
    """A network with a projection of its first output, and an adapter for one of its feature maps (FitNets)."""

    def __init__(self, network: nn.Module, projection: nn.Module, hint: tuple[int, int] | None) -> None:
        """Add the training-only layers.

        Args:
            network: the task's.
            projection: of its first output.
            hint: stride of the feature map and number of channels of the teacher's; None for no hint.
        """
        super().__init__(network)
        self.projection = projection
        self._hint_stride = None if hint is None else hint[0]
        if hint is not None:
            body: Any = network.backbone
            stride, channels = hint
            self.adapter = nn.Conv2d(body.channels[stride], channels, 1)

    def forward(self, images: Tensor) -> StudentOutputs:
        """uint8 RGB (N, 3, S, S) -> outputs."""
        network: Any = self.network
        if self._hint_stride is None:
            own, hint = network(images), torch.zeros(0)
        else:
            maps = network.backbone.features(images)
            own, hint = network.from_feature_maps(maps), self.adapter(maps[self._hint_stride])
        return StudentOutputs(own, self.projection(own[0]), hint)


def require_map(network: nn.Module, hint_stride: int, title: str) -> None:
    """Raise a ValueError that lists the strides if a network, which the title names, has no map at `hint_stride`."""
    channels = getattr(getattr(network, "backbone", None), "channels", {})
    if hint_stride not in channels:
        expected = f"expected one of {sorted(channels)}" if channels else "hints need a run of this suite"
        raise ValueError(f"hint_stride: {title} has no feature map at stride {hint_stride}; {expected}")


def build_rotation(num_inputs: int, num_outputs: int) -> nn.Module:
    """A trainable linear map with orthonormal columns, which preserves the cosines of embeddings.

    Raises:
        ValueError: if there are fewer outputs than inputs.
    """
    if num_inputs > num_outputs:
        raise ValueError(
            f"embedding_dim: {num_inputs} is more than the teacher's {num_outputs}; expected {num_outputs} or fewer"
        )
    if num_inputs == num_outputs:
        return nn.Identity()
    return parametrizations.orthogonal(nn.Linear(num_inputs, num_outputs, bias=False), orthogonal_map="householder")
