"""The maps that SSD looks at: the paper's, each half the size of the one before, or a feature pyramid."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from backbone.base import Backbone
from backbone.layers import ConvBNReLU, DepthwiseSeparable
from tasks.detection.anchors import Shapes, fpn_shapes, ssd_shapes

PYRAMID_CHANNELS = 128
EXTRA_CHANNELS = ((256, 512), (128, 256), (128, 256), (64, 128))  # of each pair: 1x1, then 3x3 with stride 2


class SSDExtraLayers(nn.Module):
    """The maps of conv 11 and conv 13, and four more, each by a 1x1 and a 3x3 convolution with stride 2.

    Attributes:
        strides: of each map.
        channels: of each map.
        anchor_shapes: of each map.

    Source: Liu et al. 2016 (arXiv:1512.02325), section 2.1; channels of the detector that Howard et al. 2017 measured.
    """

    strides = (16, 32, 64, 128, 256, 512)

    def __init__(self, backbone: Backbone) -> None:
        """Args: backbone: gives the first two; its width also scales the others."""
        super().__init__()
        self.anchor_shapes: list[Shapes] = ssd_shapes()
        self._own_strides = self.strides[:2]
        self.channels = [backbone.channels[stride] for stride in self._own_strides]
        self.extras = nn.ModuleList()
        for squeezed, out_channels in EXTRA_CHANNELS:
            squeezed, out_channels = (max(1, int(c * backbone.width_mult)) for c in (squeezed, out_channels))
            pair = (
                ConvBNReLU(self.channels[-1], squeezed, 1, backbone.conventions),
                ConvBNReLU(squeezed, out_channels, 3, backbone.conventions, stride=2),
            )
            self.extras.append(nn.Sequential(*pair))
            self.channels.append(out_channels)

    def forward(self, features: dict[int, Tensor]) -> list[Tensor]:
        """The backbone's maps by stride -> the maps to look at, the finest first."""
        maps = [features[stride] for stride in self._own_strides]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return maps


class FPN(nn.Module):
    """Maps at strides 8 to 128 with equal channels; what coarse maps know is added to the finer ones.

    Source: Lin et al. 2017 (arXiv:1612.03144), section 3, with the separable convolutions of Sandler et al. 2018
    (arXiv:1801.04381), section 6.2.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(self, backbone: Backbone) -> None:
        """Args: backbone: gives the maps at strides 8, 16 and 32; its width also scales the pyramid's."""
        super().__init__()
        self.anchor_shapes: list[Shapes] = fpn_shapes()
        own = self._own_strides = self.strides[:3]
        channels, conventions = max(8, int(PYRAMID_CHANNELS * backbone.width_mult)), backbone.conventions
        self.channels = [channels] * len(self.anchor_shapes)
        self.lateral = nn.ModuleList(ConvBNReLU(backbone.channels[s], channels, 1, conventions) for s in own)
        self.smooth = nn.ModuleList(DepthwiseSeparable(channels, channels, conventions) for _ in own)
        self.coarser = nn.ModuleList(
            DepthwiseSeparable(channels, channels, conventions, stride=2) for _ in self.strides[len(own) :]
        )

    def forward(self, features: dict[int, Tensor]) -> list[Tensor]:
        """The backbone's maps by stride -> the maps to look at, the finest first."""
        own = [lateral(features[stride]) for lateral, stride in zip(self.lateral, self._own_strides, strict=True)]
        merged = [own[-1]]
        for finer in reversed(own[:-1]):
            merged.insert(0, finer + functional.interpolate(merged[0], size=finer.shape[2:], mode="nearest"))
        maps = [smooth(m) for smooth, m in zip(self.smooth, merged, strict=True)]
        for coarser in self.coarser:
            maps.append(coarser(maps[-1]))
        return maps
