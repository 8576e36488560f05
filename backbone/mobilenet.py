"""MobileNet v1: Table 1 of the paper as rows, at any width, with its feature maps keyed by stride.

Read `layers.py` for the blocks, `weights.py` for the published checkpoints, `cost.py` for mult-adds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbone.layers import KERAS, ConvBNReLU, Conventions, DepthwiseSeparable, Normalize
from backbone.names import Variant, parse_name


class Row(NamedTuple):
    """One depthwise separable block of Table 1: channels before the width multiplier, and stride."""

    channels: int
    stride: int


STEM = Row(32, 2)
TABLE_1 = (
    Row(64, 1),
    Row(128, 2),
    Row(128, 1),
    Row(256, 2),
    Row(256, 1),
    Row(512, 2),
    *(Row(512, 1),) * 5,
    Row(1024, 2),
    Row(1024, 1),  # printed as stride 2 in the paper, but its 7x7 input gives a 7x7 output
)
SHALLOW = TABLE_1[:6] + TABLE_1[11:]  # without the five 14x14x512 blocks (section 4.1, Table 5)


class MobileNet(nn.Module):
    """MobileNet v1 without a classifier.

    Attributes:
        channels: stride -> channels of its last map, for strides 2, 4, 8, 16, 32.
        num_features: channels of the last map.
        conventions: what the weights need; layers added on top do well to share it.

    Source: Howard et al. 2017 (arXiv:1704.04861), Table 1, sections 3.2-3.4.
    """

    def __init__(
        self, width_mult: float = 1.0, *, variant: Variant = "separable", conventions: Conventions = KERAS
    ) -> None:
        """Build with random weights.

        Args:
            width_mult: the paper's alpha, > 0: a layer has max(1, int(alpha * c)) channels.
            variant: `separable` (Table 1), `conv` (full convolutions, Table 4), `shallow` (Table 5).
            conventions: padding, epsilon, activation and normalisation; they come with the weights.
        """
        super().__init__()
        self.width_mult = width_mult
        self.conventions = conventions
        self.normalize = Normalize(conventions)

        def width(channels: int) -> int:
            return max(1, int(channels * width_mult))

        in_channels, stride = width(STEM.channels), STEM.stride
        layers: list[nn.Module] = [ConvBNReLU(3, in_channels, 3, conventions, stride=stride)]
        strides = [stride]
        self.channels = {stride: in_channels}
        for row in SHALLOW if variant == "shallow" else TABLE_1:
            out_channels, stride = width(row.channels), stride * row.stride
            if variant == "conv":
                layers.append(ConvBNReLU(in_channels, out_channels, 3, conventions, stride=row.stride))
            else:
                layers.append(DepthwiseSeparable(in_channels, out_channels, conventions, stride=row.stride))
            in_channels = self.channels[stride] = out_channels
            strides.append(stride)
        self.layers = nn.Sequential(*layers)
        self._last_layer = {stride: index for index, stride in enumerate(strides)}
        self.num_features = in_channels
        self.to(memory_format=torch.channels_last)  # the layout that convolutions are fastest in
        _init_weights(self)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """The last map at each stride.

        Args:
            images: uint8 RGB (N, 3, H, W).

        Returns:
            stride -> (N, channels[stride], ceil(H / stride), ceil(W / stride)), for strides 2, 4, 8, 16, 32.
        """
        x = self.normalize(images)
        maps = {}
        at_layer = {index: stride for stride, index in self._last_layer.items()}
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in at_layer:
                maps[at_layer[index]] = x
        return maps

    def split(self, stride: int) -> tuple[nn.Sequential, nn.Sequential]:
        """Two halves that share this network's weights: images -> map at `stride`, and that map -> the last one.

        Raises:
            ValueError: if no map has that stride.
        """
        if stride not in self._last_layer:
            raise ValueError(f"split: no feature map at stride {stride}; there are {sorted(self._last_layer)}")
        cut = self._last_layer[stride] + 1
        return nn.Sequential(self.normalize, *self.layers[:cut]), self.layers[cut:]

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, H, W) -> globally average-pooled features (N, num_features)."""
        pooled: Tensor = self.layers(self.normalize(images)).mean((2, 3))
        return pooled


class Classifier(nn.Module):
    """A backbone, and one linear layer on its pooled features (Table 1's last rows)."""

    def __init__(self, backbone: MobileNet, num_classes: int) -> None:
        """Args: backbone: anything with `num_features`, from images to pooled features; num_classes: outputs."""
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, H, W) -> logits (N, num_classes)."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


def build_backbone(name: str) -> MobileNet:
    """The backbone of that name, with random weights.

    Raises:
        ValueError: if the name does not follow the grammar of `backbone.names`.
    """
    parsed = parse_name(name)
    return MobileNet(parsed.width_mult, variant=parsed.variant)


def _init_weights(module: nn.Module) -> None:
    """He initialisation by fan-out within a group; batch normalisations already start as the identity."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            fan_out = child.weight[0, 0].numel() * child.out_channels // child.groups
            nn.init.normal_(child.weight, 0.0, (2.0 / fan_out) ** 0.5)
