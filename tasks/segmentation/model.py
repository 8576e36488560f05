"""The segmentation network: a dilated backbone, a head, and in training an auxiliary head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from backbone.base import Backbone
from backbone.layers import ConvBNReLU
from tasks.segmentation.deeplab import DeepLabHead
from tasks.segmentation.layers import HEAD, build_classifier
from tasks.segmentation.lraspp import LiteRASPPHead

Head = Literal["deeplabv3plus", "deeplabv3", "lraspp"]
OutputStride = Literal[8, 16, 32]

_HEADS: dict[Head, Callable[[Backbone, int], nn.Module]] = {
    "deeplabv3plus": DeepLabHead,
    "deeplabv3": partial(DeepLabHead, version="v3"),
    "lraspp": LiteRASPPHead,
}
AUXILIARY_DROPOUT_RATE = 0.1


class SegmentationOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (N, K, h, w), at the stride of the network's head.
    """

    logits: Tensor


class AuxiliaryOutputs(NamedTuple):
    """Raw outputs in training of a network with an auxiliary head.

    Attributes:
        logits: as in `SegmentationOutputs`.
        auxiliary: (N, K, h, w), logits of the auxiliary head, at half the output stride.
    """

    logits: Tensor
    auxiliary: Tensor


class SegmentationModel(nn.Module):
    """A backbone at an output stride, and a head on its feature maps. Build it with `build_model`."""

    def __init__(self, backbone: Backbone, head: nn.Module, auxiliary_head: nn.Module | None) -> None:
        """Args: backbone: feature extractor; head, auxiliary_head: see `build_model`."""
        super().__init__()
        self.backbone = backbone
        self.decode_head = head
        self.auxiliary_head = auxiliary_head
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> SegmentationOutputs | AuxiliaryOutputs:
        """uint8 RGB (N, 3, H, W) of any size -> logits of K classes, with those of the auxiliary head in training."""
        return self.from_feature_maps(self.backbone.features(images))

    def from_feature_maps(self, maps: Mapping[int, Tensor]) -> SegmentationOutputs | AuxiliaryOutputs:
        """The backbone's maps by stride -> the same."""
        logits = self.decode_head(maps)
        if self.training and self.auxiliary_head is not None:
            return AuxiliaryOutputs(logits, self.auxiliary_head(maps))
        return SegmentationOutputs(logits)

    def drop_training_parts(self) -> None:
        """Remove the auxiliary head."""
        self.auxiliary_head = None


class AuxiliaryHead(nn.Module):
    """A fully convolutional head on the map before the last, whose loss trains the backbone's finer layers.

    Source: Zhao et al. 2017 (arXiv:1612.01105), section 3.3; layers of torchvision's `FCNHead`.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        """Args: backbone: at its output stride; num_classes: K."""
        super().__init__()
        *_, self._stride, _ = sorted(backbone.channels)
        in_channels = backbone.channels[self._stride]
        channels = max(1, in_channels // 4)
        self.conv = ConvBNReLU(in_channels, channels, 3, HEAD)
        self.dropout = nn.Dropout(AUXILIARY_DROPOUT_RATE)
        self.classifier = build_classifier(channels, num_classes)

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """The backbone's maps by stride -> logits (N, K, h, w), at half the output stride."""
        logits: Tensor = self.classifier(self.dropout(self.conv(maps[self._stride])))
        return logits


def build_model(
    backbone: Backbone,
    num_classes: int,
    *,
    head: Head = "deeplabv3plus",
    output_stride: OutputStride = 16,
    has_auxiliary_head: bool = False,
) -> SegmentationModel:
    """The network, randomly initialised above the backbone.

    Args:
        backbone: is dilated in place; its weights stay as they are.
        num_classes: K, with the background if there is one.
        head: `deeplabv3plus`, `deeplabv3` (torchvision's, without a decoder) or `lraspp` (Lite R-ASPP, the smallest).
            With the conventions `torchvision_segmentation` and MobileNet v3 large, the last two are torchvision's
            `deeplabv3_mobilenet_v3_large` and `lraspp_mobilenet_v3_large`.
        output_stride: of the coarsest feature map; 8 is finer than 16, with about three times the mult-adds.
        has_auxiliary_head: whether to train an auxiliary head, too.
    """
    backbone.set_output_stride(output_stride)
    auxiliary_head = AuxiliaryHead(backbone, num_classes) if has_auxiliary_head else None
    return SegmentationModel(backbone, _HEADS[head](backbone, num_classes), auxiliary_head)
