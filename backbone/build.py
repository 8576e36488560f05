"""Build a backbone from its name."""

from __future__ import annotations

from backbone.base import Backbone
from backbone.layers import KERAS, TIMM
from backbone.mobilenet import MobileNet
from backbone.mobilenet_v2_v3 import MobileNetV2, MobileNetV3
from backbone.names import ConventionsName, parse_name

_CONVENTIONS_OF_V1 = {"keras": KERAS, "timm": TIMM}


def default_conventions(name: str) -> ConventionsName:
    """The conventions of a backbone if none are given."""
    return "keras" if parse_name(name).family == "v1" else "torchvision"


def build_backbone(name: str, conventions: ConventionsName | None = None) -> Backbone:
    """The backbone of that name, with random weights.

    Args:
        name: see `backbone.names`.
        conventions: padding, BN epsilon and normalisation: `keras` or `timm` for v1, `torchvision` for v2 and v3;
            None for `default_conventions`.

    Raises:
        ValueError: if the name is invalid, or the network does not exist with those conventions.
    """
    parsed = parse_name(name)
    conventions = conventions or default_conventions(name)
    if conventions not in (_CONVENTIONS_OF_V1 if parsed.family == "v1" else ("torchvision",)):
        raise ValueError(f"{name}: no such network with the conventions of {conventions}")
    if parsed.family == "v1":
        return MobileNet(parsed.width_mult, variant=parsed.variant, conventions=_CONVENTIONS_OF_V1[conventions])
    if parsed.family == "v2":
        return MobileNetV2(parsed.width_mult)
    return MobileNetV3(parsed.family, parsed.width_mult)
