"""The grammar of backbone names, and its parser.

    mobilenet_<width>[_conv|_shallow|_head][_<input size>]      mobilenet_0.5, mobilenet_1.0_shallow, mobilenet_0.5_160
    mobilenet_v2_<width>[_<input size>]                         mobilenet_v2_1.0, mobilenet_v2_0.75_192
    mobilenet_(v3_large|v3_small)_<width>[_reduced][_<size>]    mobilenet_v3_small_0.75, mobilenet_v3_large_1.0_reduced

No heavy imports: configs check names before torch is loaded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Family = Literal["v1", "v2", "v3_large", "v3_small"]
Variant = Literal["separable", "conv", "shallow", "head", "reduced"]
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

_VARIANTS: dict[Family, tuple[Variant, ...]] = {
    "v1": ("separable", "conv", "shallow", "head"),
    "v2": ("separable",),
    "v3_large": ("separable", "reduced"),
    "v3_small": ("separable", "reduced"),
}

_NAME = re.compile(
    r"mobilenet_(?:(?P<family>v2|v3_large|v3_small)_)?(?P<width>\d+(?:\.\d+)?)"
    r"(?:_(?P<variant>conv|shallow|head|reduced))?(?:_(?P<size>\d+))?"
)


@dataclass(frozen=True)
class BackboneName:
    """A parsed backbone name.

    Attributes:
        width_mult: the paper's alpha, > 0; multiplies the channels of every layer.
        family: `v1` (Howard et al. 2017), or torchvision's `v2`, `v3_large`, `v3_small`.
        variant: `separable` (v1's Table 1); of v1 also `conv` (full convolutions, Table 4), `shallow` (Table 5) and
            `head` (one more 1x1 convolution before the pooling: timm's mobilenetv1_100h); of v3 also `reduced` (half
            the channels after the last stride, for detection: Howard et al. 2019, section 6.3).
        input_size: side of the square input in pixels; None if not given.
    """

    width_mult: float
    family: Family = "v1"
    variant: Variant = "separable"
    input_size: int | None = None


def parse_name(name: str) -> BackboneName:
    """Parse a backbone name.

    Args:
        name: for example `mobilenet_0.5`, `mobilenet_0.5_160`, `mobilenet_1.0_conv`, `mobilenet_v3_small_1.0`.

    Raises:
        ValueError: if the name is invalid, or the width or size is not positive.
    """
    match = _NAME.fullmatch(name)
    family: Family = (match and match["family"]) or "v1"  # type: ignore[assignment]  # the pattern matches only these
    variant: Variant = (match and match["variant"]) or "separable"  # type: ignore[assignment]
    if match is None or variant not in _VARIANTS[family]:
        variants = ", ".join(f"_{variant}" for variant in _VARIANTS["v1"][1:])
        raise ValueError(
            f"backbone name {name!r}: expected mobilenet_<width>, then one of {variants} or nothing, then "
            "_<input size> or nothing, for example mobilenet_1.0, mobilenet_0.5_160, mobilenet_1.0_shallow; or "
            "mobilenet_v2_<width>, mobilenet_v3_large_<width>[_reduced], mobilenet_v3_small_<width>[_reduced]"
        )
    width_mult = float(match["width"])
    input_size = int(match["size"]) if match["size"] else None
    if not 0 < width_mult < math.inf or input_size == 0:
        raise ValueError(f"backbone name {name!r}: width and input size must be positive")
    return BackboneName(width_mult, family, variant, input_size)
