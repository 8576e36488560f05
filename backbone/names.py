"""The grammar of backbone names, and its parser.

    mobilenet_<width>[_<layers>][_<depthwise>][_<activation>][_<input size>]
        layers: conv, shallow, head, early, late; depthwise: linear, plain; activation: relu, hardswish
        mobilenet_0.5, mobilenet_1.0_shallow, mobilenet_0.5_160, mobilenet_0.5_linear, mobilenet_0.5_late_plain_relu
    mobilenet_v2_<width>[_<input size>]
        mobilenet_v2_1.0, mobilenet_v2_0.75_192
    mobilenet_(v3_large|v3_small)_<width>[_reduced][_<input size>]
        mobilenet_v3_small_0.75, mobilenet_v3_large_1.0_reduced
    resnet50_<width>[_separable][_<input size>]
        resnet50_1.0, resnet50_0.25_separable: no MobileNet, for comparison

No heavy imports: configs check names before torch is loaded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Family = Literal["v1", "v2", "v3_large", "v3_small", "resnet50"]
Variant = Literal["separable", "conv", "shallow", "head", "early", "late", "reduced"]
Depthwise = Literal["activated", "linear", "plain"]
Activation = Literal["relu6", "relu", "hardswish"]
ConventionsName = Literal[
    "keras",
    "timm",
    "torchvision",
    "caffe",
    "torchvision_ssdlite",
    "torchvision_faster_rcnn",
    "torchvision_segmentation",
]
DEFAULT_INPUT_SIZE = 224

_FAMILIES: dict[str, Family] = {
    "mobilenet": "v1",
    "mobilenet_v2": "v2",
    "mobilenet_v3_large": "v3_large",
    "mobilenet_v3_small": "v3_small",
    "resnet50": "resnet50",
}
_VARIANTS: dict[Family, tuple[Variant, ...]] = {  # first the one that names leave out
    "v1": ("separable", "conv", "shallow", "head", "early", "late"),
    "v2": ("separable",),
    "v3_large": ("separable", "reduced"),
    "v3_small": ("separable", "reduced"),
    "resnet50": ("conv", "separable"),
}

_NAME = re.compile(
    rf"(?P<family>{'|'.join(_FAMILIES)})_(?P<width>\d+(?:\.\d+)?)"
    r"(?:_(?P<variant>conv|shallow|head|early|late|reduced|separable))?"
    r"(?:_(?P<depthwise>linear|plain))?(?:_(?P<activation>relu|hardswish))?(?:_(?P<size>\d+))?"
)


@dataclass(frozen=True)
class BackboneName:
    """A parsed backbone name.

    Attributes:
        width_mult: the paper's alpha, > 0; multiplies the channels of every layer.
        family: `v1` (Howard et al. 2017), torchvision's `v2`, `v3_large`, `v3_small`, or `resnet50`.
        variant: `separable` (v1's Table 1); of v1 also `conv` (full convolutions, Table 4), `shallow` (Table 5),
            `head` (one more 1x1 convolution before the pooling: timm's mobilenetv1_100h), `early` and `late` (each
            stride but the first one block earlier or later); of v3 also `reduced` (half the channels after the last
            stride, for detection: Howard et al. 2019, section 6.3); of ResNet-50 `conv`, or `separable` if its 3x3
            convolutions are depthwise separable.
        input_size: side of the square input in pixels; None if not given.
        depthwise: what follows v1's depthwise convolutions: `activated` (batch normalisation and activation, Figure
            3), `linear` (batch normalisation alone) or `plain` (neither).
        activation: of v1; the others have their own.
    """

    width_mult: float
    family: Family = "v1"
    variant: Variant = "separable"
    input_size: int | None = None
    depthwise: Depthwise = "activated"
    activation: Activation = "relu6"

    @property
    def untold(self) -> tuple[str, Depthwise, Activation]:
        """What the names and shapes of weights do not tell: strides, and activations of MobileNet v1."""
        return self.variant if self.variant in ("early", "late") else "", self.depthwise, self.activation


def parse_name(name: str) -> BackboneName:
    """Parse a backbone name.

    Args:
        name: for example `mobilenet_0.5`, `mobilenet_0.5_160`, `mobilenet_1.0_conv`, `mobilenet_v3_small_1.0`.

    Raises:
        ValueError: if the name is invalid, or the width or size is not positive.
    """
    match = _NAME.fullmatch(name)
    if match is None or not _is_possible(match):
        variants = ", ".join(f"_{variant}" for variant in _VARIANTS["v1"][1:])
        raise ValueError(
            f"backbone name {name!r}: expected mobilenet_<width>, then one of {variants} or nothing, then _linear or "
            "_plain (not with _conv) or nothing, then _relu or _hardswish or nothing, then _<input size> or nothing, "
            "for example mobilenet_1.0, mobilenet_0.5_160, mobilenet_1.0_shallow, mobilenet_0.5_linear; or "
            "mobilenet_v2_<width>, mobilenet_v3_large_<width>[_reduced], mobilenet_v3_small_<width>[_reduced], "
            "resnet50_<width>[_separable]"
        )
    family = _FAMILIES[match["family"]]
    width_mult = float(match["width"])
    input_size = int(match["size"]) if match["size"] else None
    if not 0 < width_mult < math.inf or input_size == 0:
        raise ValueError(f"backbone name {name!r}: width and input size must be positive")
    return BackboneName(
        width_mult,
        family,
        match["variant"] or _VARIANTS[family][0],  # type: ignore[arg-type]  # the pattern has no others
        input_size,
        match["depthwise"] or "activated",  # type: ignore[arg-type]
        match["activation"] or "relu6",  # type: ignore[arg-type]
    )


def _is_possible(match: re.Match[str]) -> bool:
    """Whether the family has that variant, and convolutions and activations to change."""
    family, variant = _FAMILIES[match["family"]], match["variant"]
    if variant is not None and variant not in _VARIANTS[family][1:]:
        return False
    if match["depthwise"] and variant == "conv":
        return False
    return family == "v1" or not (match["depthwise"] or match["activation"])
