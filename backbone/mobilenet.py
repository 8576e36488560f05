"""MobileNet v1 (Table 1 of the paper) at any width.

See `base.py` for its interface, `layers.py` for its blocks, `published.py` for published weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from backbone.base import Backbone, convolutions
from backbone.layers import KERAS, ConvBNReLU, Conventions, DepthwiseSeparable, init_weights
from backbone.names import Depthwise, Variant


class Row(NamedTuple):
    """One depthwise separable block of Table 1: channels before the width multiplier, and stride."""

    channels: int
    stride: int


STEM = Row(32, 2)
TABLE_1 = (
    Row(64, 1),
    Row(128, 2),
    Row(128, 1),
    Row(256, 2),
    Row(256, 1),
    Row(512, 2),
    *(Row(512, 1),) * 5,
    Row(1024, 2),
    Row(1024, 1),  # printed as stride 2 in the paper, but its 7x7 input gives a 7x7 output
)
SHALLOW = TABLE_1[:6] + TABLE_1[11:]  # without the five 14x14x512 blocks (section 4.1, Table 5)
HEAD_CHANNELS = 1024  # minimum for the variant `head`


class MobileNet(Backbone):
    """MobileNet v1 without a classifier.

    Source: Howard et al. 2017 (arXiv:1704.04861), Table 1, sections 3.2-3.4.
    """

    def __init__(
        self,
        width_mult: float = 1.0,
        *,
        variant: Variant = "separable",
        depthwise: Depthwise = "activated",
        conventions: Conventions = KERAS,
        channels: Sequence[int] | None = None,
    ) -> None:
        """Build with random weights.

        Args:
            width_mult: the paper's alpha, > 0: a layer has max(1, int(alpha * c)) channels.
            variant: `separable` (Table 1), `conv` (full convolutions, Table 4), `shallow` (Table 5), `head` (Table 1
                and one more 1x1 convolution), `early` and `late` (each stride but the first one block earlier or
                later).
            depthwise: what follows the depthwise convolutions, see `BackboneName`.
            conventions: padding, BN epsilon, activation and normalisation of the weights.
            channels: of the first layer, each block, and the last layer of `head`, as in a pruned network; None for
                those of the width multiplier.

        Raises:
            ValueError: if there are more or fewer `channels` than layers.
        """
        blocks = _blocks(variant)
        if channels is None:
            channels = [max(1, int(row.channels * width_mult)) for row in (STEM, *blocks)]
            channels += [max(HEAD_CHANNELS, channels[-1])] if variant == "head" else []
        num_layers = 1 + len(blocks) + (variant == "head")
        if len(channels) != num_layers:
            raise ValueError(f"channels: expected {num_layers} numbers, one for each layer, got {len(channels)}")
        in_channels = channels[0]
        layers: list[nn.Module] = [ConvBNReLU(3, in_channels, 3, conventions, stride=STEM.stride)]
        for row, out_channels in zip(blocks, channels[1:], strict=False):
            if variant == "conv":
                layers.append(ConvBNReLU(in_channels, out_channels, 3, conventions, stride=row.stride))
            else:
                layers.append(
                    DepthwiseSeparable(in_channels, out_channels, conventions, stride=row.stride, depthwise=depthwise)
                )
            in_channels = out_channels
        if variant == "head":
            layers.append(ConvBNReLU(in_channels, channels[-1], 1, conventions))
        super().__init__(layers, width_mult=width_mult, conventions=conventions)
        init_weights(self)

    @property
    def layer_channels(self) -> list[int]:
        """The channels of each layer, as the argument `channels`."""
        return [convolutions(layer)[-1].out_channels for layer in self.layers]


def _blocks(variant: Variant) -> tuple[Row, ...]:
    strides = [row.stride for row in TABLE_1]
    if variant == "early":
        strides = [*strides[1:], 1]
    elif variant == "late":
        strides = [1, *strides[:-1]]
    elif variant == "shallow":
        return SHALLOW
    return tuple(row._replace(stride=stride) for row, stride in zip(TABLE_1, strides, strict=True))
