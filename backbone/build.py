"""From a name to a network."""

from __future__ import annotations

from backbone.base import Backbone
from backbone.layers import KERAS, TIMM
from backbone.mobilenet import MobileNet
from backbone.names import ConventionsName, parse_name
from backbone.mobilenet_v2_v3 import MobileNetV2, MobileNetV3

_CONVENTIONS_OF_V1 = {"keras": KERAS, "timm": TIMM}


def default_conventions(name: str) -> ConventionsName:
    """Whose conventions a backbone has where nothing else is asked for."""
    return "keras" if parse_name(name).family == "v1" else "torchvision"


def build_backbone(name: str, conventions: ConventionsName | None = None) -> Backbone:
    """The backbone of that name, with random weights.

    Args:
        name: follows the grammar of `backbone.names`.
        conventions: whose padding, epsilon and normalisation to use: `keras` or `timm` for v1, `torchvision` for v2
            and v3; None for `default_conventions`.

    Raises:
        ValueError: if the name does not follow the grammar, or the network is not published with those conventions.
    """
    parsed = parse_name(name)
    conventions = conventions or default_conventions(name)
    if conventions not in (_CONVENTIONS_OF_V1 if parsed.family == "v1" else ("torchvision",)):
        raise ValueError(f"{name}: there is no such network with the conventions of {conventions}")
    if parsed.family == "v1":
        return MobileNet(parsed.width_mult, variant=parsed.variant, conventions=_CONVENTIONS_OF_V1[conventions])
    if parsed.family == "v2":
        return MobileNetV2(parsed.width_mult)
    return MobileNetV3(parsed.family, parsed.width_mult)
