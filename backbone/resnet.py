"""ResNet-50 of torchvision's blocks at any width, to compare with: its 3x3 convolutions full or depthwise separable."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models.resnet import Bottleneck

from backbone.base import Backbone
from backbone.layers import TORCHVISION_RESNET, ConvBNReLU, Conventions, SameConv2d, init_weights

STEM_CHANNELS = 64
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # channels inside a block, blocks, stride of the first


class ResNet50(Backbone):
    """ResNet-50 without a classifier; it has no weights from elsewhere.

    Source: He et al. 2015 (arXiv:1512.03385), Table 1, with the strides in the 3x3 convolutions, as in torchvision.
    """

    def __init__(
        self, width_mult: float = 1.0, *, is_separable: bool = False, conventions: Conventions = TORCHVISION_RESNET
    ) -> None:
        """Build with random weights.

        Args:
            width_mult: > 0: a layer has max(1, int(width_mult * c)) channels.
            is_separable: whether each 3x3 convolution is a depthwise and a 1x1 convolution, with batch normalisation
                and activation between them.
            conventions: padding, BN epsilon, activation and normalisation.
        """
        norm_layer = partial(nn.BatchNorm2d, eps=conventions.bn_eps)
        in_channels = max(1, int(STEM_CHANNELS * width_mult))
        layers: list[nn.Module] = [ConvBNReLU(3, in_channels, 7, conventions, stride=2)]
        for stage_channels, num_blocks, first_stride in STAGES:
            channels = max(1, int(stage_channels * width_mult))
            for index in range(num_blocks):
                stride, shortcut = first_stride if index == 0 else 1, None
                out_channels = channels * Bottleneck.expansion
                if index == 0:
                    convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
                    shortcut = nn.Sequential(convolution, norm_layer(out_channels))
                block = Bottleneck(in_channels, channels, stride, shortcut, norm_layer=norm_layer)
                if is_separable:
                    depthwise = ConvBNReLU(channels, channels, 3, conventions, stride=stride, groups=channels)
                    block.conv2 = nn.Sequential(depthwise, SameConv2d(channels, channels, 1))
                layers.append(block)
                in_channels = out_channels
        layers[1] = nn.Sequential(nn.MaxPool2d(3, 2, 1), layers[1])
        super().__init__(layers, width_mult=width_mult, conventions=conventions)
        init_weights(self)

    def layer_stride(self, layer: nn.Module) -> int:
        """The factor by which a layer makes feature maps smaller; a shortcut's stride is its block's."""
        if isinstance(layer, ConvBNReLU):
            return super().layer_stride(layer)
        if isinstance(layer, nn.Sequential):  # pooling, and the first block
            return 2 * self.layer_stride(layer[1])
        assert isinstance(layer, Bottleneck)
        return int(layer.stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Not possible.

        Raises:
            ValueError: always.
        """
        raise ValueError("ResNet-50 cannot be dilated, which this needs; expected a MobileNet as backbone.name")
