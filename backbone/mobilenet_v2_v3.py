"""MobileNet v2 and v3 from torchvision, with the interface of `base.py`."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small

from backbone.base import Backbone
from backbone.layers import TORCHVISION_V2, TORCHVISION_V3, Conventions, SameConv2d

DROPOUT_RATE = 0.2
BN_MOMENTUM = 0.01  # of v3, as in torchvision


class MobileNetV2(Backbone):
    """MobileNet v2 without a classifier. Source: Sandler et al. 2018 (arXiv:1801.04381), Table 2."""

    def __init__(self, width_mult: float = 1.0, *, conventions: Conventions = TORCHVISION_V2) -> None:
        """Build with random weights.

        Args:
            width_mult: width multiplier; channels are rounded to multiples of 8.
            conventions: padding, BN epsilon and normalisation of the weights.
        """
        layers = mobilenet_v2(
            width_mult=width_mult, norm_layer=partial(nn.BatchNorm2d, eps=conventions.bn_eps)
        ).features
        if conventions.padding == "tf_same":
            _pad_as_tf(layers)
        super().__init__(layers, width_mult=width_mult, conventions=conventions)

    def block_parts(self, block: nn.Module) -> list[nn.Module]:
        """Expansion, depthwise convolution, projection and its norm."""
        return list(block.conv)  # type: ignore[arg-type]  # a Sequential

    def build_head(self, num_outputs: int) -> nn.Module:
        """Dropout and one linear layer."""
        return nn.Sequential(nn.Dropout(DROPOUT_RATE), nn.Linear(self.num_features, num_outputs))


class MobileNetV3(Backbone):
    """MobileNet v3 without a classifier. Source: Howard et al. 2019 (arXiv:1905.02244), Tables 1 and 2."""

    def __init__(
        self,
        family: Literal["v3_large", "v3_small"],
        width_mult: float = 1.0,
        *,
        is_reduced: bool = False,
        conventions: Conventions = TORCHVISION_V3,
    ) -> None:
        """Build with random weights.

        Args:
            family: `v3_large` or `v3_small`.
            width_mult: as for v2.
            is_reduced: half the channels after the last stride (section 6.3).
            conventions: BN epsilon and normalisation of the weights.
        """
        build = mobilenet_v3_large if family == "v3_large" else mobilenet_v3_small
        norm_layer = partial(nn.BatchNorm2d, eps=conventions.bn_eps, momentum=BN_MOMENTUM)
        network = build(width_mult=width_mult, reduced_tail=is_reduced, norm_layer=norm_layer)
        super().__init__(network.features, width_mult=width_mult, conventions=conventions)
        self._num_hidden: int = network.classifier[0].out_features

    def block_parts(self, block: nn.Module) -> list[nn.Module]:
        """Expansion, depthwise convolution, squeeze and excitation in some blocks, projection."""
        return list(block.block)  # type: ignore[arg-type]  # a Sequential

    def build_head(self, num_outputs: int) -> nn.Module:
        """Two linear layers; the paper counts the first among the feature layers, after the pooling."""
        return nn.Sequential(
            nn.Linear(self.num_features, self._num_hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(DROPOUT_RATE),
            nn.Linear(self._num_hidden, num_outputs),
        )


def _pad_as_tf(layers: nn.Sequential) -> None:
    """Replace the strided convolutions by those with TensorFlow's padding, with the same weights and names."""
    for name, convolution in list(layers.named_modules()):
        if isinstance(convolution, nn.Conv2d) and convolution.stride != (1, 1):
            padded = SameConv2d(
                convolution.in_channels,
                convolution.out_channels,
                convolution.kernel_size[0],
                stride=convolution.stride[0],
                groups=convolution.groups,
                padding="tf_same",
            )
            padded.weight = convolution.weight
            layers.set_submodule(name, padded)
