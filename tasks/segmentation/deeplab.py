"""The heads of DeepLabV3+ and DeepLabV3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from backbone.base import Backbone
from backbone.layers import ConvBNReLU, DepthwiseSeparable
from tasks.segmentation.layers import HEAD, build_classifier, resize_map, scaled

Version = Literal["v3plus", "v3"]

CHANNELS, REDUCED_CHANNELS = 256, 48
DECODER_STRIDE = 4
# The authors' TensorFlow code has 0.1 (`keep_prob=0.9` in deeplab/model.py of tensorflow/models, for both versions; the
# papers name none), torchvision's DeepLabV3 has 0.5.
DROPOUT_RATES: Mapping[Version, float] = {"v3plus": 0.1, "v3": 0.5}


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 and three dilated 3x3 convolutions and the mean of the map, concatenated.

    Source: Chen et al. 2017 (arXiv:1706.05587), section 3.3.
    """

    def __init__(
        self, in_channels: int, channels: int, *, first_rate: int, is_separable: bool, dropout_rate: float
    ) -> None:
        """Build with random weights.

        Args:
            in_channels: of the feature map.
            channels: of each branch, and of the output.
            first_rate: dilation of the first 3x3 convolution; the others have two and three times as much.
            is_separable: whether the 3x3 convolutions are.
            dropout_rate: of the output, in training.
        """
        super().__init__()
        self.branches = nn.ModuleList([ConvBNReLU(in_channels, channels, 1, HEAD)])
        for multiple in (1, 2, 3):
            dilation = multiple * first_rate
            self.branches.append(_conv3x3(in_channels, channels, is_separable=is_separable, dilation=dilation))
        self.pooling = ConvBNReLU(in_channels, channels, 1, HEAD)
        self.project = ConvBNReLU((len(self.branches) + 1) * channels, channels, 1, HEAD)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, channels, h, w)."""
        maps = [branch(features) for branch in self.branches]
        maps.append(self.pooling(features.mean((2, 3), keepdim=True)).expand_as(maps[0]))
        output: Tensor = self.dropout(self.project(torch.cat(maps, 1)))
        return output


class DeepLabHead(nn.Module):
    """ASPP on the coarsest feature map, 3x3 convolutions and a classifier.

    `v3plus` has separable convolutions, dilated by 6, 12 and 18 at output stride 16 and by 12, 24 and 36 at 8, and a
    decoder: its last convolutions see the finer map at stride 4, too. `v3` is torchvision's network: full convolutions,
    dilated by 12, 24 and 36, and no decoder. At width 1.0 the layers have 256 channels, and the finer map is reduced to
    48; the backbone's width scales them.

    Source: Chen et al. 2018 (arXiv:1802.02611), sections 3.1 and 4.1; Chen et al. 2017 (arXiv:1706.05587).
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, version: Version = "v3plus") -> None:
        """Build with random weights.

        Args:
            backbone: at its output stride.
            num_classes: K, with the background if there is one.
            version: `v3plus` or `v3`.
        """
        super().__init__()
        self._output_stride = max(backbone.channels)
        self._has_decoder = version == "v3plus"
        channels = scaled(CHANNELS, backbone)
        first_rate = 96 // self._output_stride if self._has_decoder else 12
        self.aspp = ASPP(
            backbone.channels[self._output_stride],
            channels,
            first_rate=first_rate,
            is_separable=self._has_decoder,
            dropout_rate=DROPOUT_RATES[version],
        )
        in_channels = [channels]
        if self._has_decoder:
            reduced = scaled(REDUCED_CHANNELS, backbone)
            self.reduce = ConvBNReLU(backbone.channels[DECODER_STRIDE], reduced, 1, HEAD)
            in_channels = [channels + reduced, channels]
        self.refine = nn.Sequential(
            *(_conv3x3(count, channels, is_separable=self._has_decoder) for count in in_channels)
        )
        self.classifier = build_classifier(channels, num_classes)

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """The backbone's maps by stride -> logits (N, K, h, w), at stride 4, or for `v3` at the output stride."""
        features = self.aspp(maps[self._output_stride])
        if self._has_decoder:
            finer = self.reduce(maps[DECODER_STRIDE])
            features = torch.cat([resize_map(features, finer.shape[2:]), finer], 1)
        logits: Tensor = self.classifier(self.refine(features))
        return logits


def _conv3x3(in_channels: int, channels: int, *, is_separable: bool, dilation: int = 1) -> nn.Module:
    if is_separable:
        return DepthwiseSeparable(in_channels, channels, HEAD, dilation=dilation)
    return ConvBNReLU(in_channels, channels, 3, HEAD, dilation=dilation)
