"""What the heads share: their conventions and width, resizing, the classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.base import Backbone
from backbone.layers import Conventions

# The authors' TensorFlow code and torchvision have these in their heads, whatever the backbone has.
HEAD = Conventions(padding="symmetric", bn_eps=1e-5, activation=nn.ReLU)


def scaled(channels: int, backbone: Backbone) -> int:
    """The channels of a head's layer, scaled by the backbone's width."""
    return max(8, int(channels * backbone.width_mult))


def resize_map(feature_map: Tensor, size_hw: torch.Size | tuple[int, int]) -> Tensor:
    """A feature map or logits (N, C, h, w) at another size, by bilinear interpolation; corners are not aligned."""
    return functional.interpolate(feature_map, size=tuple(size_hw), mode="bilinear", align_corners=False)


def build_classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution whose initial logits are nearly equal."""
    classifier = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)  # type: ignore[arg-type]  # there is one
    return classifier
