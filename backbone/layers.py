"""MobileNet's building blocks, and the padding and normalisation conventions of published weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.names import Depthwise

Padding = Literal["tf_same", "symmetric"]


@dataclass(frozen=True)
class Conventions:
    """Architecture details that differ between publishers and must match their weights.

    The defaults are those of the paper's TensorFlow checkpoints, which Keras publishes.

    Attributes:
        padding: of stride-2 convolutions (see `SameConv2d`).
        bn_eps: epsilon of batch normalisation.
        activation: called with `inplace=True`.
        mean: subtracted from pixels of 0 to 255; a scalar or a value per channel.
        std: pixels are then divided by it.
        dilates_strided: whether a convolution that loses its stride is dilated as those after it, see
            `Backbone.set_output_stride`; its values are then others than those of the strided network.
        maps_first_layers: whether the feature map at a stride is that of its first layer, not of its last, except for
            the coarsest.
    """

    padding: Padding = "tf_same"
    bn_eps: float = 1e-3
    activation: type[nn.Module] = nn.ReLU6
    mean: float | tuple[float, float, float] = 127.5
    std: float | tuple[float, float, float] = 127.5
    dilates_strided: bool = False
    maps_first_layers: bool = False

    def __str__(self) -> str:
        mean, std = (
            value if isinstance(value, float) else tuple(round(v, 1) for v in value) for value in (self.mean, self.std)
        )
        return f"padding {self.padding}, BN eps {self.bn_eps:g}, {self.activation.__name__}, (pixel - {mean}) / {std}"


IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

KERAS = Conventions()
TIMM = Conventions(padding="symmetric", bn_eps=1e-5)
CAFFE = Conventions(mean=(123.68, 116.779, 103.939), std=1.0)  # Keras calls this normalisation by that name
TORCHVISION_RESNET = Conventions("symmetric", 1e-5, nn.ReLU, IMAGENET_MEAN, IMAGENET_STD)
TORCHVISION_V2 = Conventions("symmetric", 1e-5, nn.ReLU6, IMAGENET_MEAN, IMAGENET_STD)
TORCHVISION_V3 = Conventions("symmetric", 1e-3, nn.Hardswish, IMAGENET_MEAN, IMAGENET_STD)
# Of torchvision's detectors on MobileNet v3, whose own activations do not depend on these.
TORCHVISION_SSDLITE = Conventions("symmetric", 1e-3, nn.ReLU6)
TORCHVISION_FASTER_RCNN = Conventions("symmetric", 1e-5, nn.Hardswish, IMAGENET_MEAN, IMAGENET_STD)
# Of torchvision's DeepLabV3 and Lite R-ASPP on MobileNet v3.
TORCHVISION_SEGMENTATION = replace(TORCHVISION_V3, dilates_strided=True, maps_first_layers=True)


class Normalize(nn.Module):
    """Input normalisation: (pixel - mean) / std, per colour channel.

    Mean and std are buffers, so they are saved with the weights and callers pass plain pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, conventions: Conventions) -> None:
        super().__init__()
        for name, value in (("mean", conventions.mean), ("std", conventions.std)):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32).expand(3).reshape(3, 1, 1).clone())

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, H, W), 0 to 255 -> float (N, 3, H, W), channels last in memory."""
        pixels = images.to(self.mean.dtype, memory_format=torch.channels_last)
        return (pixels - self.mean) / self.std


class SameConv2d(nn.Conv2d):
    """A convolution without bias whose output has ceil(size / stride) rows and columns.

    With `tf_same`, the total padding max((ceil(size / stride) - 1) * stride + kernel - size, 0) is split evenly, with
    the odd pixel at the bottom and right: (0, 1) at stride 2 for even sizes, (1, 1) for odd ones. With `symmetric` it
    is kernel // 2 on every side. The output shapes are equal, but weights trained with one do not fit the other. A
    dilated kernel counts with its holes: dilation * (kernel - 1) + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        padding: Padding = "tf_same",
    ) -> None:
        padding_px = dilation * (kernel_size // 2)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding_px, dilation=dilation, groups=groups, bias=False
        )
        self.pads_as_tf = padding == "tf_same"

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        stride = self.stride[0]
        if not self.pads_as_tf or stride == 1:  # where both are the same, with odd kernels
            return super().forward(input)
        kernel = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        height, width = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in (input.shape[2], input.shape[3])
        )
        padded = functional.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return functional.conv2d(padded, self.weight, None, self.stride, 0, self.dilation, self.groups)


class ConvBNReLU(nn.Sequential):
    """Convolution, batch normalisation and activation (ReLU6 by default): a layer of Table 1.

    The last, or the last two, can be left out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        conventions: Conventions,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        has_bn: bool = True,
        has_activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = SameConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            groups=groups,
            padding=conventions.padding,
        )
        if has_bn:
            self.bn = nn.BatchNorm2d(out_channels, eps=conventions.bn_eps)
        if has_activation:
            self.act = conventions.activation(inplace=True)


class DepthwiseSeparable(nn.Sequential):
    """A 3x3 depthwise and a 1x1 pointwise convolution, each with batch normalisation and activation.

        mult-adds = D_K^2 * M * D_F^2 + M * N * D_F^2

    After the depthwise one the activation, or both, can be left out, see `BackboneName.depthwise`.

    Source: Howard et al. 2017, section 3.1, equation 5 and Figure 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conventions: Conventions,
        *,
        stride: int = 1,
        dilation: int = 1,
        depthwise: Depthwise = "activated",
    ) -> None:
        super().__init__()
        self.depthwise = ConvBNReLU(
            in_channels,
            in_channels,
            3,
            conventions,
            stride=stride,
            dilation=dilation,
            groups=in_channels,
            has_bn=depthwise != "plain",
            has_activation=depthwise == "activated",
        )
        self.pointwise = ConvBNReLU(in_channels, out_channels, 1, conventions)


def init_weights(module: nn.Module) -> None:
    """He initialisation by the fan-out within a group; batch normalisation is the identity already."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            fan_out = child.weight[0, 0].numel() * child.out_channels // child.groups
            nn.init.normal_(child.weight, 0.0, (2.0 / fan_out) ** 0.5)
