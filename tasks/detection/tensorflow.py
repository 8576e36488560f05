"""The SSDs that TensorFlow published, from their frozen graphs. Only the weights are read; TensorFlow is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbone.layers import KERAS, Normalize
from tasks.common.weights import TaskWeights
from tasks.detection.anchors import ssd_shapes
from tasks.detection.coco import CATEGORY_IDS, NUM_OUTPUTS, coco_detector
from tasks.detection.graph_def import read_constants

Arrays = Mapping[str, NDArray[np.float32]]
Family = Literal["v1", "v2"]

_SCOPES = ("FeatureExtractor/", "BoxPredictor_")  # of the weights; postprocessing has constants, too
NMS_IOU = 0.6  # of all three, in their published settings
# Of our d_x, d_y, d_w, d_h in ty, tx, th, tw; both are scaled by 10 and 5, that is by 1 / variance.
_BOX_ORDER = (1, 0, 3, 2)


class Layout(NamedTuple):
    """One of the published networks.

    Attributes:
        mark: a weight that only this network has.
        family: of its backbone.
        settings: by dotted key, where they differ from the defaults.
    """

    mark: str
    family: Family
    settings: dict[str, Any]


_SEPARABLE_BOXES = "BoxPredictor_0/BoxEncodingPredictor_depthwise/depthwise_weights"
_V2 = {"ssd.finest_map": "expansion", "ssd.extra_layers": "separable"}
# The first one whose mark is in the file.
LAYOUTS = (
    Layout("FeatureExtractor/MobilenetV1/Conv2d_0/weights", "v1", {}),
    Layout(_SEPARABLE_BOXES, "v2", _V2 | {"ssd.predictor": "separable"}),
    Layout("FeatureExtractor/MobilenetV2/Conv/weights", "v2", _V2 | {"ssd.predictor": "full"}),
)
_BACKBONES: dict[Family, str] = {"v1": "mobilenet_1.0", "v2": "mobilenet_v2_1.0"}


class Unit(NamedTuple):
    """A convolution with batch normalisation: its two modules here, and its scope in the graph."""

    conv: str
    bn: str
    scope: str


def read_graph(path: Path) -> TaskWeights:
    """The weights of a frozen graph of `ssd_mobilenet_v1_coco`, `ssd_mobilenet_v2_coco` or `ssdlite_mobilenet_v2_coco`.

    The 80 named categories of COCO are kept of the 90 that the networks have outputs for.

    Raises:
        ValueError: if the file is damaged, or of another network.
    """
    arrays = read_constants(path)
    layout = next((layout for layout in LAYOUTS if layout.mark in arrays), None)
    if layout is None:
        marks = f"{LAYOUTS[0].mark} nor {LAYOUTS[-1].mark}"
        raise ValueError(f"{path}: not one of TensorFlow's SSDs on MobileNet v1 or v2: it has neither {marks}")
    for name, array in arrays.items():
        if name.startswith(_SCOPES) and not np.isfinite(array).all():
            raise ValueError(f"{path}: damaged: {name} has values that are not finite")
    settings = {
        "backbone.name": _BACKBONES[layout.family],
        "data.input_size": 300,
        "data.antialias": False,
        "ssd.scores": "sigmoid",
        "nms_iou": NMS_IOU,
    }
    try:
        state = _state(arrays, layout)
    except KeyError as error:
        raise ValueError(f"{path}: not the whole network: it has no {error.args[0]}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return coco_detector(state, "keras", path, settings | layout.settings)


def _state(arrays: Arrays, layout: Layout) -> dict[str, Tensor]:
    """Our network's state dict.

    Raises:
        KeyError: if a weight is missing.
        ValueError: if a kernel has not four axes, or the network has other classes.
    """
    state = {f"backbone.normalize.{name}": value for name, value in Normalize(KERAS).state_dict().items()}
    body = _v1_units() if layout.family == "v1" else _v2_units()
    for conv, bn, scope in (*body, *_extra_units(layout)):
        state |= {f"{conv}.weight": _kernel(arrays, scope)} | _norm(arrays, bn, scope)
    for index, shapes in enumerate(ssd_shapes()):
        for ours, name, reorder in (
            ("box_predictors", "BoxEncodingPredictor", _reorder_boxes),
            ("class_predictors", "ClassPredictor", _select_classes),
        ):
            scope, module, last = f"BoxPredictor_{index}/{name}", f"{ours}.{index}", 0
            if layout.settings.get("ssd.predictor") == "separable":
                depthwise = f"{scope}_depthwise"
                state |= {f"{module}.0.conv.weight": _kernel(arrays, depthwise)}
                state |= _norm(arrays, f"{module}.0.bn", depthwise)
                last = 1
            state[f"{module}.{last}.weight"] = reorder(_kernel(arrays, scope), len(shapes))
            state[f"{module}.{last}.bias"] = reorder(torch.from_numpy(arrays[f"{scope}/biases"]), len(shapes))
    return state


def _v1_units() -> Iterator[Unit]:
    scope = "FeatureExtractor/MobilenetV1/Conv2d_"
    yield Unit("backbone.layers.0.conv", "backbone.layers.0.bn", f"{scope}0")
    for index in range(1, 14):
        for part in ("depthwise", "pointwise"):
            module = f"backbone.layers.{index}.{part}"
            yield Unit(f"{module}.conv", f"{module}.bn", f"{scope}{index}_{part}")


def _v2_units() -> Iterator[Unit]:
    """In torchvision's network the last two modules of a block are the projection and its norm."""
    root = "FeatureExtractor/MobilenetV2/"
    for index, name in ((0, "Conv"), (18, "Conv_1")):
        yield Unit(f"backbone.layers.{index}.0", f"backbone.layers.{index}.1", root + name)
    for index in range(17):
        module = f"backbone.layers.{index + 1}.conv"
        scope = f"{root}expanded_conv_{index}" if index else f"{root}expanded_conv"
        parts = ["expand", "depthwise"] if index else ["depthwise"]
        for position, part in enumerate(parts):
            yield Unit(f"{module}.{position}.0", f"{module}.{position}.1", f"{scope}/{part}")
        yield Unit(f"{module}.{len(parts)}", f"{module}.{len(parts) + 1}", f"{scope}/project")


def _extra_units(layout: Layout) -> Iterator[Unit]:
    root = {"v1": "MobilenetV1/Conv2d_13_pointwise", "v2": "MobilenetV2/layer_19"}[layout.family]
    for index, (squeezed, channels) in enumerate(((256, 512), (128, 256), (128, 256), (64, 128))):
        scopes = [
            f"FeatureExtractor/{root}_1_Conv2d_{index + 2}_1x1_{squeezed}",
            f"FeatureExtractor/{root}_2_Conv2d_{index + 2}_3x3_s2_{channels}",
        ]
        modules = ["0", "1"]
        if layout.settings.get("ssd.extra_layers") == "separable":
            scopes.insert(1, f"{scopes[1]}_depthwise")
            modules = ["0", "1.depthwise", "1.pointwise"]
        for module, scope in zip(modules, scopes, strict=True):
            yield Unit(f"neck.extras.{index}.{module}.conv", f"neck.extras.{index}.{module}.bn", scope)


def _kernel(arrays: Arrays, scope: str) -> Tensor:
    """From (H, W, in, out) and, depthwise, (H, W, in, 1) to (out, in / groups, H, W)."""
    is_depthwise = f"{scope}/depthwise_weights" in arrays
    name = f"{scope}/{'depthwise_weights' if is_depthwise else 'weights'}"
    kernel = torch.from_numpy(arrays[name])
    if kernel.ndim != 4:
        raise ValueError(f"made for another network: {name} is {tuple(kernel.shape)}, but a kernel has four axes")
    return kernel.permute((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1)).contiguous()


def _norm(arrays: Arrays, module: str, scope: str) -> dict[str, Tensor]:
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    tensors = {ours: torch.from_numpy(arrays[f"{scope}/BatchNorm/{theirs}"]) for ours, theirs in names.items()}
    tensors["num_batches_tracked"] = torch.tensor(0)
    return {f"{module}.{name}": tensor for name, tensor in tensors.items()}


def _reorder_boxes(tensor: Tensor, num_shapes: int) -> Tensor:
    return tensor.view(num_shapes, 4, *tensor.shape[1:])[:, _BOX_ORDER].flatten(0, 1)


def _select_classes(tensor: Tensor, num_shapes: int) -> Tensor:
    found = len(tensor) / num_shapes
    if found != NUM_OUTPUTS:
        raise ValueError(f"expected a network for COCO, with {NUM_OUTPUTS} outputs an anchor, but it has {found:g}")
    return tensor.view(num_shapes, NUM_OUTPUTS, *tensor.shape[1:])[:, CATEGORY_IDS].flatten(0, 1)
