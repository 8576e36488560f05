"""Build a backbone from its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from backbone.base import Backbone
from backbone.layers import (
    CAFFE,
    KERAS,
    TIMM,
    TORCHVISION_FASTER_RCNN,
    TORCHVISION_RESNET,
    TORCHVISION_SEGMENTATION,
    TORCHVISION_SSDLITE,
    TORCHVISION_V2,
    TORCHVISION_V3,
    Conventions,
)
from backbone.mobilenet import MobileNet
from backbone.names import Activation, ConventionsName, Family, parse_name

_V3_CONVENTIONS: dict[ConventionsName, Conventions] = {
    "torchvision": TORCHVISION_V3,
    "torchvision_ssdlite": TORCHVISION_SSDLITE,
    "torchvision_faster_rcnn": TORCHVISION_FASTER_RCNN,
    "torchvision_segmentation": TORCHVISION_SEGMENTATION,
}
_CONVENTIONS: dict[Family, dict[ConventionsName, Conventions]] = {
    "v1": {"keras": KERAS, "timm": TIMM, "caffe": CAFFE},
    "v2": {"torchvision": TORCHVISION_V2, "keras": KERAS},
    "v3_large": _V3_CONVENTIONS,
    "v3_small": _V3_CONVENTIONS,
    "resnet50": {"torchvision": TORCHVISION_RESNET},
}
_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu6": nn.ReLU6, "relu": nn.ReLU, "hardswish": nn.Hardswish}


def default_conventions(name: str) -> ConventionsName:
    """The conventions of a backbone if none are given."""
    return "keras" if parse_name(name).family == "v1" else "torchvision"


def build_backbone(
    name: str, conventions: ConventionsName | None = None, channels: Sequence[int] | None = None
) -> Backbone:
    """The backbone of that name, with random weights.

    Args:
        name: see `backbone.names`.
        conventions: padding, BN epsilon and normalisation: `keras`, `timm` or `caffe` for v1, `torchvision` or `keras`
            for v2, `torchvision` and those of its detectors and segmentation networks, `torchvision_ssdlite`,
            `torchvision_faster_rcnn` and `torchvision_segmentation`, for v3; None for `default_conventions`. `keras`
            stands for all of TensorFlow's networks.
        channels: of each layer of v1, see `MobileNet`; None for those of the name.

    Raises:
        ValueError: if the name is invalid, or the network does not exist with those conventions or channels.
    """
    parsed = parse_name(name)
    conventions = conventions or default_conventions(name)
    if conventions not in _CONVENTIONS[parsed.family]:
        raise ValueError(f"{name}: no such network with the conventions of {conventions}")
    if parsed.family == "v1":
        return MobileNet(
            parsed.width_mult,
            variant=parsed.variant,
            depthwise=parsed.depthwise,
            conventions=replace(_CONVENTIONS["v1"][conventions], activation=_ACTIVATIONS[parsed.activation]),
            channels=channels,
        )
    if channels is not None:
        raise ValueError(f"{name}: channels can be given for MobileNet v1 only")
    from backbone.mobilenet_v2_v3 import MobileNetV2, MobileNetV3  # torchvision takes as long to import as torch

    if parsed.family == "resnet50":
        from backbone.resnet import ResNet50

        return ResNet50(parsed.width_mult, is_separable=parsed.variant == "separable")
    if parsed.family == "v2":
        return MobileNetV2(parsed.width_mult, conventions=_CONVENTIONS["v2"][conventions])
    return MobileNetV3(
        parsed.family,
        parsed.width_mult,
        is_reduced=parsed.variant == "reduced",
        conventions=_V3_CONVENTIONS[conventions],
    )
