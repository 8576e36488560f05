"""The grammar of backbone names: one parser that every command, config and table shares.

    mobilenet_<width>[_conv|_shallow][_<input size>]        mobilenet_0.5, mobilenet_1.0_shallow, mobilenet_0.5_160

Imports nothing heavy, so that configs can check a name before torch is loaded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

Variant = Literal["separable", "conv", "shallow"]
DEFAULT_INPUT_SIZE = 224

_NAME = re.compile(r"mobilenet_(?P<width>\d+(?:\.\d+)?)(?:_(?P<variant>conv|shallow))?(?:_(?P<size>\d+))?")


@dataclass(frozen=True)
class BackboneName:
    """What a backbone name says.

    Attributes:
        width_mult: the paper's alpha, > 0; multiplies the channels of every layer.
        variant: `separable` (Table 1), `conv` (full convolutions, Table 4) or `shallow` (Table 5).
        input_size: side of the square input in pixels, or None where the name leaves it open.
    """

    width_mult: float
    variant: Variant = "separable"
    input_size: int | None = None


def parse_name(name: str) -> BackboneName:
    """The parts of a backbone name.

    Args:
        name: for example `mobilenet_0.5`, `mobilenet_0.5_160`, `mobilenet_1.0_conv`.

    Raises:
        ValueError: if the name does not follow the grammar, or the width or size is not positive.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        variants = " or ".join(f"_{variant}" for variant in get_args(Variant)[1:])
        raise ValueError(
            f"backbone name {name!r}: expected mobilenet_<width>, then {variants} or nothing, then _<input size> or "
            "nothing, for example mobilenet_1.0, mobilenet_0.5_160, mobilenet_1.0_shallow"
        )
    width_mult = float(match["width"])
    input_size = int(match["size"]) if match["size"] else None
    if not 0 < width_mult < math.inf or input_size == 0:
        raise ValueError(f"backbone name {name!r}: width and input size must be positive")
    variant: Variant = match["variant"] or "separable"  # type: ignore[assignment]  # the pattern admits only these
    return BackboneName(width_mult, variant, input_size)
