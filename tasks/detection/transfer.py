"""Start from another detector: its layers above the backbone that fit, and the predictors of known classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backbone.weights import weight_names
from tasks.common.settings import get_setting, replace_settings
from tasks.common.weights import TaskWeights
from tasks.detection.config import DetectionConfig

_PREDICTED_FROM = ("ssd.finest_map", "ssd.anchors", "ssd.predictor")
# The parts of all detectors above the backbone: their names in words, and the settings that give them their meaning,
# as far as the configured model uses them.
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "neck": ("the neck", ("ssd.neck", "ssd.extra_layers")),
    "rpn": ("the region proposals", ("faster_rcnn.anchor_scales",)),
    "box_predictors": ("the box predictors", _PREDICTED_FROM),
    "class_predictors": ("the class predictors", (*_PREDICTED_FROM, "ssd.scores")),
    "predictor": ("the predictors", ()),
    "roi_heads.box_head": ("the layers of the regions", ()),
    "roi_heads.box_predictor": ("the predictors", ()),
}


@torch.no_grad()
def load_detector(
    network: Any, weights: TaskWeights, class_names: Sequence[str], config: DetectionConfig
) -> dict[str, int]:
    """Copy a detector's weights above the backbone into another one, in place; a part is copied whole or not at all.

    A part is copied if it has the same shapes and the same meaning. Classes are known by their names, and the
    background is one of them. A parameter with a part for each class has the rows (before, K + 1, after), without
    background (before, K, after); those of unknown classes stay as they are.

    Args:
        network: SSD, FasterRCNN or FasterRCNNFPN.
        weights: of a detector.
        class_names: of the network.
        config: settings of the network.

    Returns:
        What was kept: the part, in words, and its number of tensors.
    """
    known = list(weights.metadata["class_names"])
    first: int = network.num_backgrounds
    rows = {row: row for row in range(first)} | {
        row: first + known.index(name)
        for row, name in enumerate(class_names, first)
        if known.count(name) == class_names.count(name) == 1
    }
    source = replace_settings(type(config)(), weights.settings)
    layouts, state = network.class_layouts(), network.state_dict()
    kept = {"the backbone": sum(name.startswith("backbone.") for name in weight_names(state))}
    for part, (title, settings) in PARTS.items():
        own = {name: tensor for name, tensor in state.items() if name.startswith(f"{part}.")}
        if not own:
            continue
        fits = _used(config, settings) == _used(source, settings) and all(
            name in weights.state
            and _shape(weights.state[name], layouts.get(name)) == _shape(tensor, layouts.get(name))
            for name, tensor in own.items()
        )
        if not fits and part == "neck":
            break  # predictors mean nothing above another neck
        if not fits:
            continue
        for name, tensor in own.items():
            if name in layouts:
                before, after = layouts[name]
                given = _by_class(weights.state[name], before, after)
                weights.check_rows(name, given.shape[1], [*range(first), *known])
                _by_class(tensor, before, after)[:, list(rows)] = given[:, list(rows.values())].to(tensor)
            else:
                tensor.copy_(weights.state[name])
        by_class = [name for name in own if name in layouts]
        num_kept = len(weight_names(own)) - (0 if rows else len(by_class))
        if by_class:
            title = f"{title} of {len(rows) - first} of {len(class_names)} classes"
        if num_kept:
            kept[title] = num_kept
    return kept


def _used(config: DetectionConfig, keys: Sequence[str]) -> dict[str, object]:
    return {key: get_setting(config, key) for key in keys if config.is_used(key)}


def _by_class(tensor: Tensor, before: int, after: int) -> Tensor:
    """A view (before, classes, after, ...) of a parameter (before * classes * after, ...)."""
    return tensor.view(before, -1, after, *tensor.shape[1:])


def _shape(tensor: Tensor, layout: tuple[int, int] | None) -> tuple[int, ...]:
    """The shape of a tensor, without the number of classes where it has a part for each."""
    if layout is None or len(tensor) % (layout[0] * layout[1]):
        return tuple(tensor.shape)
    before, _, *after = _by_class(tensor, *layout).shape
    return (before, *after)
