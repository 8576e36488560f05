"""The detectors on MobileNet v3 that torchvision published, from their `.pth` files; only tensors are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbone.base import Backbone
from backbone.build import build_backbone
from backbone.formats import read_tensors, rename_weights
from backbone.names import ConventionsName
from tasks.common.weights import TaskWeights, complete_state
from tasks.detection.coco import CATEGORY_IDS, NUM_OUTPUTS, coco_detector
from tasks.detection.faster_rcnn_fpn import FasterRCNNFPN
from tasks.detection.ssd import SSD

_DETECTORS = ("head.classification_head.", "roi_heads.")  # one of torchvision's has weights that begin so
_TAPPED = 13  # the block of MobileNet v3 large whose expansion is SSDLite's finest map
_UNIT = {"0": "conv", "1": "bn"}
_EXTRA = {"0": "0", "1": "1.depthwise", "2": "1.pointwise"}
_HEADS = {"classification_head": "class_predictors", "regression_head": "box_predictors"}


class Layout(NamedTuple):
    """One of the published networks.

    Attributes:
        mark: a weight that only this network has.
        backbone: name.
        conventions: of the backbone.
        settings: by dotted key, where they differ from the defaults.
        rename: a weight's name -> its name in our network.
        build: backbone -> our network for COCO.
    """

    mark: str
    backbone: str
    conventions: ConventionsName
    settings: Mapping[str, Any]
    rename: Callable[[str], str]
    build: Callable[[Backbone], nn.Module]


def _ssdlite_name(name: str) -> str:
    match name.split("."):
        case ["backbone", "features", "0", index, *rest] if int(index) < _TAPPED:
            return _join("backbone.layers", index, *rest)
        case ["backbone", "features", "0", _, *rest]:
            return _join("backbone.layers", _TAPPED, "block.0", *rest)
        case ["backbone", "features", "1", "0", *rest]:
            return _join("backbone.layers", _TAPPED, "block", *rest)
        case ["backbone", "features", "1", index, *rest]:
            return _join("backbone.layers", _TAPPED + int(index), *rest)
        case ["backbone", "extra", index, part, layer, kind]:
            return _join("neck.extras", index, _EXTRA[part], _UNIT[layer], kind)
        case ["head", head, "module_list", index, "0", layer, kind]:
            return _join(_HEADS[head], index, 0, _UNIT[layer], kind)
        case ["head", head, "module_list", index, "1", kind]:
            return _join(_HEADS[head], index, 1, kind)
    raise KeyError(name)


def _faster_rcnn_name(name: str) -> str:
    """The published files are older than the names of today's convolutions, which have an index more."""
    match name.split("."):
        case ["backbone", "body", *rest]:
            return _join("backbone.layers", *rest)
        case ["backbone", "fpn", blocks, index, *_, kind]:
            return _join("neck", blocks, index, 0, kind)
        case ["rpn", "head", "conv", *_, kind]:
            return _join("rpn.head.conv.0.0", kind)
        case ["rpn" | "roi_heads", *_]:
            return name
    raise KeyError(name)


def _join(*parts: str | int) -> str:
    return ".".join(map(str, parts))


_SSD = {"finest_map": "expansion", "extra_layers": "separable", "anchors": "torchvision", "predictor": "separable"}
_NUM_CLASSES = len(CATEGORY_IDS)
LAYOUTS = (
    Layout(
        "backbone.features.0.0.0.weight",
        "mobilenet_v3_large_1.0_reduced",
        "torchvision_ssdlite",
        {"data.input_size": 320, "score_threshold": 0.001, "nms_iou": 0.55}
        | {f"ssd.{name}": value for name, value in _SSD.items()},
        _ssdlite_name,
        lambda backbone: SSD(backbone, _NUM_CLASSES, input_size=320, **_SSD),  # type: ignore[arg-type]  # literals
    ),
    Layout(
        "backbone.body.0.0.weight",
        "mobilenet_v3_large_1.0",
        "torchvision_faster_rcnn",
        {"model": "faster_rcnn_fpn", "data.input_size": 320, "faster_rcnn.num_proposals": 150, "score_threshold": 0.05},
        _faster_rcnn_name,
        lambda backbone: FasterRCNNFPN(backbone, _NUM_CLASSES),
    ),
)
# Of the file of this name, which has the same weights by name and shape as the one for 320 px.
LARGE_FILE = "fasterrcnn_mobilenet_v3_large_fpn"
LARGE_SETTINGS = {"data.input_size": 800, "faster_rcnn.num_proposals": 1000}


def read_torchvision(path: Path) -> TaskWeights | None:
    """The weights of torchvision's SSDLite320 or Faster R-CNN on MobileNet v3 large, trained on COCO.

    Of the 91 outputs the background's and those of the 80 named categories are kept; the softmax is taken over these.
    The two files of Faster R-CNN are told apart by their names.

    Returns:
        None if the file has another kind of network than a detector.

    Raises:
        ValueError: if the file is damaged, or of another detector.
    """
    tensors = read_tensors(path)
    if not any(name.startswith(_DETECTORS) for name in tensors):
        return None
    layout = next((layout for layout in LAYOUTS if layout.mark in tensors), None)
    if layout is None:
        marks = " nor ".join(layout.mark for layout in LAYOUTS)
        raise ValueError(f"{path}: not one of torchvision's detectors on MobileNet v3 large: it has neither {marks}")
    with torch.device("meta"):
        network = layout.build(build_backbone(layout.backbone, layout.conventions))
    layouts: Mapping[str, tuple[int, int]] = network.class_layouts()  # type: ignore[operator]
    weights = rename_weights(path, tensors, layout.rename)
    for name in weights.keys() & layouts.keys():
        weights[name] = _select_classes(path, weights[name], *layouts[name])
    state = complete_state(path, weights, network)
    large = LARGE_SETTINGS if path.name.startswith(LARGE_FILE) else {}
    settings = {"backbone.name": layout.backbone, "data.antialias": False, **layout.settings, **large}
    return coco_detector(state, layout.conventions, path, settings)


def _select_classes(path: Path, tensor: Tensor, before: int, after: int) -> Tensor:
    """The rows of the background and the named categories in a parameter with the rows (before, outputs, after).

    Raises:
        ValueError: if the network has other classes.
    """
    found = len(tensor) / (before * after)
    if found != NUM_OUTPUTS:
        raise ValueError(f"{path}: expected a network for COCO, with {NUM_OUTPUTS} outputs, but it has {found:g}")
    return tensor.view(before, NUM_OUTPUTS, after, *tensor.shape[1:])[:, [0, *CATEGORY_IDS]].flatten(0, 2)
