"""The networks on MobileNet v3 that torchvision published, from their `.pth` files; only tensors are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from backbone.build import build_backbone
from backbone.formats import read_tensors, rename_weights
from backbone.names import ConventionsName
from datasets.segmentation.files import VOC_CLASSES
from tasks.common.weights import TaskWeights, complete_state
from tasks.segmentation.model import Head, build_model

BACKBONE = "mobilenet_v3_large_1.0"
CONVENTIONS: ConventionsName = "torchvision_segmentation"
INPUT_SIZE = 520  # torchvision's presets resize the shorter side to it
AUXILIARY_WEIGHT = 0.5  # of torchvision's training, references/segmentation/train.py
_BACKBONE_MARK = "backbone.0.0.weight"  # a weight that the networks on MobileNet v3 have, and those on ResNet have not
_UNIT = {"0": "conv", "1": "bn"}
_UNIT_AFTER_ONE = {"1": "conv", "2": "bn"}  # behind a layer without weights, or a module


class Layout(NamedTuple):
    """One of the published networks.

    Attributes:
        head: of ours.
        outputs: the weight with a row for each class; marks the network.
        rename: a weight's name -> its name in our network.
    """

    head: Head
    outputs: str
    rename: Callable[[str], str]


def _lraspp_name(name: str) -> str:
    match name.split("."):
        case ["backbone", *rest]:
            return ".".join(("backbone.layers", *rest))
        case ["classifier", "cbr", layer, kind]:
            return f"decode_head.project.{_UNIT[layer]}.{kind}"
        case ["classifier", "scale", "1", kind]:
            return f"decode_head.gate.{kind}"
        case ["classifier", "low_classifier", kind]:
            return f"decode_head.finer_classifier.{kind}"
        case ["classifier", "high_classifier", kind]:
            return f"decode_head.classifier.{kind}"
    raise KeyError(name)


def _deeplab_name(name: str) -> str:
    match name.split("."):
        case ["backbone", *rest]:
            return ".".join(("backbone.layers", *rest))
        case ["classifier", "0", "convs", "4", layer, kind]:
            return f"decode_head.aspp.pooling.{_UNIT_AFTER_ONE[layer]}.{kind}"
        case ["classifier", "0", "convs", branch, layer, kind]:
            return f"decode_head.aspp.branches.{branch}.{_UNIT[layer]}.{kind}"
        case ["classifier", "0", "project", layer, kind]:
            return f"decode_head.aspp.project.{_UNIT[layer]}.{kind}"
        case ["classifier", "4", kind]:
            return f"decode_head.classifier.{kind}"
        case ["classifier", layer, kind]:
            return f"decode_head.refine.0.{_UNIT_AFTER_ONE[layer]}.{kind}"
        case ["aux_classifier", "4", kind]:
            return f"auxiliary_head.classifier.{kind}"
        case ["aux_classifier", layer, kind]:
            return f"auxiliary_head.conv.{_UNIT[layer]}.{kind}"
    raise KeyError(name)


LAYOUTS = (
    Layout("lraspp", "classifier.high_classifier.weight", _lraspp_name),
    Layout("deeplabv3", "classifier.4.weight", _deeplab_name),
)


def read_torchvision(path: Path) -> TaskWeights | None:
    """The weights of torchvision's Lite R-ASPP or DeepLabV3 on MobileNet v3 large, for the classes of Pascal VOC.

    Returns:
        None if the file has another kind of network.

    Raises:
        ValueError: if the file is damaged, of another backbone, or of other classes.
    """
    tensors = read_tensors(path)
    layout = _find_layout(tensors)
    if layout is None:
        return None
    if _BACKBONE_MARK not in tensors:
        raise ValueError(f"{path}: not one of torchvision's networks on MobileNet v3 large: it has no {_BACKBONE_MARK}")
    num_classes = len(tensors[layout.outputs])
    if num_classes != len(VOC_CLASSES):
        raise ValueError(f"{path}: expected a network for Pascal VOC, with 21 outputs, but it has {num_classes}")
    weights = rename_weights(path, tensors, layout.rename)
    has_auxiliary_head = any(name.startswith("auxiliary_head.") for name in weights)
    with torch.device("meta"):
        network = build_model(
            build_backbone(BACKBONE, CONVENTIONS),
            num_classes,
            head=layout.head,
            has_auxiliary_head=has_auxiliary_head,
        )
    return TaskWeights(
        complete_state(path, weights, network),
        CONVENTIONS,
        str(path),
        task="segmentation",
        metadata={"class_names": list(VOC_CLASSES)},
        settings={
            "backbone.name": BACKBONE,
            "data.input_size": INPUT_SIZE,
            "head": layout.head,
            "output_stride": 16,
            "auxiliary_weight": AUXILIARY_WEIGHT * has_auxiliary_head,
        },
    )


def _find_layout(tensors: Mapping[str, Tensor]) -> Layout | None:
    """The layout whose outputs are in a state dict with a backbone: of a convolution, not of a linear classifier."""
    if not any(name.startswith("backbone.") for name in tensors):
        return None
    found = (layout for layout in LAYOUTS if layout.outputs in tensors and tensors[layout.outputs].ndim == 4)
    return next(found, None)
