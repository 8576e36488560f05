"""The two blocks that MobileNet is made of, and the padding and normalisation that come with its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Padding = Literal["tf_same", "symmetric"]


@dataclass(frozen=True)
class Conventions:
    """What one publisher's weights were trained with, and what they therefore need.

    The defaults are those of the paper's own TensorFlow checkpoints, which Keras publishes.

    Attributes:
        padding: where stride-2 convolutions pad (see `SameConv2d`).
        bn_eps: epsilon of every batch normalisation.
        activation: called with `inplace=True`.
        mean: subtracted from pixels of 0 to 255; one number or one for each of R, G, B.
        std: pixels are divided by it afterwards.
    """

    padding: Padding = "tf_same"
    bn_eps: float = 1e-3
    activation: type[nn.Module] = nn.ReLU6
    mean: float | tuple[float, float, float] = 127.5
    std: float | tuple[float, float, float] = 127.5

    def __str__(self) -> str:
        mean, std = (
            value if isinstance(value, float) else tuple(round(v, 1) for v in value) for value in (self.mean, self.std)
        )
        return f"padding {self.padding}, BN eps {self.bn_eps:g}, {self.activation.__name__}, (pixel - {mean}) / {std}"


IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

KERAS = Conventions()
TIMM = Conventions(padding="symmetric", bn_eps=1e-5)
TORCHVISION_V2 = Conventions("symmetric", 1e-5, nn.ReLU6, IMAGENET_MEAN, IMAGENET_STD)
TORCHVISION_V3 = Conventions("symmetric", 1e-3, nn.Hardswish, IMAGENET_MEAN, IMAGENET_STD)


class Normalize(nn.Module):
    """Plain pixels to what the network was trained on: (pixel - mean) / std, per colour channel.

    Mean and std are buffers, so that they travel with the weights and no caller can get them wrong.
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

    With `tf_same`, the padding a side needs in all, max((ceil(size / stride) - 1) * stride + kernel - size, 0), goes to
    the bottom and right where it cannot be shared evenly: at stride 2 that is (0, 1) for even and (1, 1) for odd sizes.
    With `symmetric` it is kernel // 2 on every side. Both give the same shapes, but other weights fit each.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: Padding = "tf_same",
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.pads_as_tf = padding == "tf_same" and stride > 1  # at stride 1 and odd kernels the two agree

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        if not self.pads_as_tf:
            return super().forward(input)
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in (input.shape[2], input.shape[3])
        )
        padded = functional.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return functional.conv2d(padded, self.weight, None, self.stride, 0, self.dilation, self.groups)


class ConvBNReLU(nn.Sequential):
    """Convolution, batch normalisation, ReLU6 (or what the conventions say): the unit of Table 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        conventions: Conventions,
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = SameConv2d(
            in_channels, out_channels, kernel_size, stride=stride, groups=groups, padding=conventions.padding
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=conventions.bn_eps)
        self.act = conventions.activation(inplace=True)


class DepthwiseSeparable(nn.Sequential):
    """A 3x3 depthwise convolution, then a 1x1 pointwise one; both with batch normalisation and activation.

        mult-adds = D_K^2 * M * D_F^2 + M * N * D_F^2

    Source: Howard et al. 2017, section 3.1, equation 5 and Figure 3.
    """

    def __init__(self, in_channels: int, out_channels: int, conventions: Conventions, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvBNReLU(in_channels, in_channels, 3, conventions, stride=stride, groups=in_channels)
        self.pointwise = ConvBNReLU(in_channels, out_channels, 1, conventions)
