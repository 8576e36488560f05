"""The head of Lite R-ASPP, the small network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from backbone.base import Backbone
from backbone.layers import ConvBNReLU
from tasks.segmentation.layers import HEAD, build_classifier, resize_map, scaled

CHANNELS = 128


class LiteRASPPHead(nn.Module):
    """A 1x1 convolution of the coarsest map, gated by its mean; logits from it and from the next finer map are added.

    The mean is over the whole map, as in torchvision, where the paper has one of 49 x 49 cells. At width 1.0 the layer
    has 128 channels; the backbone's width scales them.

    Source: Howard et al. 2019 (arXiv:1905.02244), section 6.4 and Figure 10.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        """Build with random weights.

        Args:
            backbone: at its output stride.
            num_classes: K, with the background if there is one.
        """
        super().__init__()
        *_, self._finer_stride, self._output_stride = sorted(backbone.channels)
        in_channels, channels = backbone.channels[self._output_stride], scaled(CHANNELS, backbone)
        self.project = ConvBNReLU(in_channels, channels, 1, HEAD)
        self.gate = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.classifier = build_classifier(channels, num_classes)
        self.finer_classifier = build_classifier(backbone.channels[self._finer_stride], num_classes)

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """The backbone's maps by stride -> logits (N, K, h, w), at half the output stride."""
        coarsest, finer = maps[self._output_stride], maps[self._finer_stride]
        features = self.project(coarsest) * self.gate(coarsest.mean((2, 3), keepdim=True)).sigmoid()
        # A 1x1 convolution and bilinear interpolation commute, and there are fewer classes than channels.
        logits: Tensor = resize_map(self.classifier(features), finer.shape[2:]) + self.finer_classifier(finer)
        return logits
