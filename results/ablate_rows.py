"""The rows of an ablation: networks with one thing changed, and the network that each is compared with."""

from __future__ import annotations

from typing import Literal, NamedTuple

BASE, RESNET = "base", "resnet50"


class AblationRow(NamedTuple):
    """A network of an ablation.

    Attributes:
        suffix: of its backbone's name, after the width.
        summary: what is different.
        equal: what its width makes equal to its counterpart's, of `backbone.cost.Cost`; None for the same width.
        counterpart: row that it is compared with; empty for none.
        prefix: of its backbone's name, before the width.
    """

    suffix: str
    summary: str
    equal: Literal["mult_adds", "num_params"] | None = None
    counterpart: str = BASE
    prefix: str = "mobilenet"


ROWS = {
    BASE: AblationRow("", "the network of --backbone.name", counterpart=""),
    "linear": AblationRow("_linear", "batch normalisation alone after each depthwise convolution"),
    "plain": AblationRow("_plain", "neither normalisation nor activation after it"),
    "relu": AblationRow("_relu", "ReLU in place of ReLU6"),
    "hardswish": AblationRow("_hardswish", "hard-swish in place of ReLU6"),
    "early": AblationRow("_early", "each stride but the first a block earlier; equal mult-adds", equal="mult_adds"),
    "late": AblationRow("_late", "each stride but the first a block later; equal mult-adds", equal="mult_adds"),
    "shallow": AblationRow("_shallow", "five blocks fewer, wider; equal mult-adds (Table 5)", equal="mult_adds"),
    "conv": AblationRow("_conv", "full convolutions, the same width (Table 4)"),
    "narrow_conv": AblationRow("_conv", "full convolutions, narrower; equal mult-adds", equal="mult_adds"),
    RESNET: AblationRow("", "ResNet-50 of that width", counterpart="", prefix=RESNET),
    "resnet50_separable": AblationRow(
        "_separable", "its 3x3 convolutions separable, wider; equal parameters", "num_params", RESNET, RESNET
    ),
}
