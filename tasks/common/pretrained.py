"""Where a network's first weights come from: a publisher, a file, or another run of any task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from backbone import Backbone, Weights, build_backbone, load_weights, open_weights
from backbone.build import default_conventions
from tasks.common.checkpoint import BEST, load_checkpoint
from tasks.common.config import BackboneConfig
from tasks.common.parser import CONFIG


def open_pretrained(config: Any) -> Weights | None:
    """The weights that a task's settings name, None for random ones.

    Raises:
        ValueError: if they cannot be read, or need other conventions than the settings state.
    """
    backbone: BackboneConfig = config.backbone
    if backbone.pretrained == "none":
        return None
    run = Path(backbone.pretrained)
    if run.is_dir():
        weights = _weights_of_run(run)
    else:
        weights = open_weights(backbone.pretrained, backbone.name, input_size=config.data.input_size)
    if backbone.conventions not in (None, weights.conventions):
        raise ValueError(
            f"backbone.conventions: {backbone.conventions}, but the weights {weights.origin} need {weights.conventions}"
        )
    return weights


def build_pretrained(config: Any, weights: Weights | None) -> Backbone:
    """The backbone that a task's settings name, with those weights.

    Raises:
        ValueError: if they were made for another network.
    """
    conventions = config.backbone.conventions if weights is None else weights.conventions
    backbone = build_backbone(config.backbone.name, conventions)
    if weights is not None:
        load_weights(backbone, weights)
    return backbone


def _weights_of_run(run: Path) -> Weights:
    content = load_checkpoint(run / BEST)
    if not (run / CONFIG).is_file():
        raise ValueError(f"{run}: not a run folder: it has no {CONFIG}")
    settings = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))["backbone"]
    conventions = settings["conventions"] or default_conventions(settings["name"])
    names = content["vocabulary"]["class_names"] if content["task"] == "classification" else ()
    return Weights(content["model"], conventions, str(run), tuple(names))
