"""Necks of SSD: from the backbone's feature maps to those that predictions are made from."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from backbone.base import Backbone
from backbone.layers import ConvBNReLU, DepthwiseSeparable
from tasks.detection.anchors import AnchorShapes, fpn_shapes, ssd_shapes, torchvision_shapes
from tasks.detection.config import Anchors, ExtraLayers, FinestMap

FPN_CHANNELS = 128
EXTRA_CHANNELS = ((256, 512), (128, 256), (128, 256), (64, 128))  # of each pair: 1x1, then 3x3 with stride 2


class SSDExtraLayers(nn.Module):
    """SSD's extra layers: the backbone's strides 16 and 32, then 64 to 512 by a 1x1 and a strided 3x3 convolution each.

    Attributes:
        strides: of each feature map.
        channels: of each feature map.
        anchor_shapes: of each feature map.

    Source: Liu et al. 2016 (arXiv:1512.02325), section 2.1; channels of the detector that Howard et al. 2017 measured.
    """

    strides = (16, 32, 64, 128, 256, 512)

    def __init__(
        self,
        backbone: Backbone,
        *,
        finest_map: FinestMap = "layer",
        extra_layers: ExtraLayers = "full",
        anchors: Anchors = "tensorflow",
    ) -> None:
        """Build with random weights.

        Args:
            backbone: provides strides 16 and 32; its width also scales the extra layers.
            finest_map: `expansion` makes the backbone's map at stride 16 the expansion in the next block.
            extra_layers: 3x3 convolutions, `full` or `separable`.
            anchors: see `anchors.py`.

        Raises:
            ValueError: if the backbone has no expansions and one is asked for.
        """
        super().__init__()
        self.anchor_shapes: list[AnchorShapes] = ssd_shapes() if anchors == "tensorflow" else torchvision_shapes()
        self._backbone_strides = self.strides[:2]
        if finest_map == "expansion":
            backbone.tap_expansion(self.strides[0])
        self.channels = [backbone.channels[stride] for stride in self._backbone_strides]
        self.extras = nn.ModuleList()
        for index in range(len(EXTRA_CHANNELS)):
            layers, channels = _extra_layer(self.channels[-1], index, backbone, extra_layers)
            self.extras.append(layers)
            self.channels.append(channels)

    def forward(self, features: dict[int, Tensor]) -> list[Tensor]:
        """The backbone's feature maps by stride -> the feature maps to predict from, finest first."""
        feature_maps = [features[stride] for stride in self._backbone_strides]
        for extra in self.extras:
            feature_maps.append(extra(feature_maps[-1]))
        return feature_maps


class FPN(nn.Module):
    """Feature pyramid network: strides 8 to 128, with equal channels and a top-down path from stride 32 to 8.

    Strides 64 and 128 are depthwise separable convolutions of the pyramid's stride 32, or SSD's first extra layers on
    the backbone's stride 32: more parameters, and large objects are placed better (results/detection.md).

    Attributes: see `SSDExtraLayers`.

    Source: Lin et al. 2017 (arXiv:1612.03144), section 3, with the separable convolutions of Sandler et al. 2018
    (arXiv:1801.04381), section 6.2.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(self, backbone: Backbone, *, with_extra_layers: bool = False) -> None:
        """Build with random weights.

        Args:
            backbone: provides strides 8, 16 and 32; its width also scales the pyramid.
            with_extra_layers: whether strides 64 and 128 are SSD's extra layers.
        """
        super().__init__()
        self.anchor_shapes: list[AnchorShapes] = fpn_shapes()
        strides = self._backbone_strides = self.strides[:3]
        channels, conventions = max(8, int(FPN_CHANNELS * backbone.width_mult)), backbone.conventions
        self.channels = [channels] * len(strides)
        self.lateral = nn.ModuleList(ConvBNReLU(backbone.channels[s], channels, 1, conventions) for s in strides)
        self.smooth = nn.ModuleList(DepthwiseSeparable(channels, channels, conventions) for _ in strides)
        self._with_extra_layers = with_extra_layers
        self.coarser = nn.ModuleList()
        in_channels = backbone.channels[strides[-1]] if with_extra_layers else channels
        for index in range(len(self.strides) - len(strides)):
            if with_extra_layers:
                layers, in_channels = _extra_layer(in_channels, index, backbone, "full")
            else:
                layers = DepthwiseSeparable(channels, channels, conventions, stride=2)
            self.coarser.append(layers)
            self.channels.append(in_channels)

    def forward(self, features: dict[int, Tensor]) -> list[Tensor]:
        """The backbone's feature maps by stride -> the feature maps to predict from, finest first."""
        laterals = [
            lateral(features[stride]) for lateral, stride in zip(self.lateral, self._backbone_strides, strict=True)
        ]
        merged = [laterals[-1]]
        for lateral in reversed(laterals[:-1]):
            merged.insert(0, lateral + functional.interpolate(merged[0], size=lateral.shape[2:], mode="nearest"))
        feature_maps = [smooth(feature_map) for smooth, feature_map in zip(self.smooth, merged, strict=True)]
        coarsest = features[self._backbone_strides[-1]] if self._with_extra_layers else feature_maps[-1]
        for coarser in self.coarser:
            coarsest = coarser(coarsest)
            feature_maps.append(coarsest)
        return feature_maps


def _extra_layer(
    in_channels: int, index: int, backbone: Backbone, extra_layers: ExtraLayers
) -> tuple[nn.Sequential, int]:
    """One of SSD's extra layers, which halves a feature map, and its channels."""
    squeezed, channels = (max(1, int(c * backbone.width_mult)) for c in EXTRA_CHANNELS[index])
    halve = (
        ConvBNReLU(squeezed, channels, 3, backbone.conventions, stride=2)
        if extra_layers == "full"
        else DepthwiseSeparable(squeezed, channels, backbone.conventions, stride=2)
    )
    return nn.Sequential(ConvBNReLU(in_channels, squeezed, 1, backbone.conventions), halve), channels
