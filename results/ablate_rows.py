"""The rows of an ablation: the base network with one thing changed, and the network that each is compared with."""

from __future__ import annotations

from typing import Literal, NamedTuple

BASE = "base"


class AblationRow(NamedTuple):
    """A network of an ablation.

    Attributes:
        suffix: of its backbone's name, after the width.
        summary: what is different.
        equal_mult_adds: whether its width is chosen so that its mult-adds equal those of its counterpart; otherwise it
            has the same width.
        counterpart: row that it is compared with; None for the base.
    """

    suffix: str
    summary: str
    equal_mult_adds: bool = False
    counterpart: Literal["base"] | None = BASE


ROWS = {
    BASE: AblationRow("", "the network of --backbone.name", counterpart=None),
    "linear": AblationRow("_linear", "batch normalisation alone after each depthwise convolution"),
    "plain": AblationRow("_plain", "neither normalisation nor activation after it"),
    "relu": AblationRow("_relu", "ReLU in place of ReLU6"),
    "hardswish": AblationRow("_hardswish", "hard-swish in place of ReLU6"),
    "early": AblationRow("_early", "each stride but the first a block earlier; equal mult-adds", equal_mult_adds=True),
    "late": AblationRow("_late", "each stride but the first a block later; equal mult-adds", equal_mult_adds=True),
    "shallow": AblationRow("_shallow", "five blocks fewer, wider; equal mult-adds (Table 5)", equal_mult_adds=True),
    "conv": AblationRow("_conv", "full convolutions, the same width (Table 4)"),
    "narrow_conv": AblationRow("_conv", "full convolutions, narrower; equal mult-adds", equal_mult_adds=True),
}
