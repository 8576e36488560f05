"""Pretrained weights: of a publisher, a file, or a run of any task."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import yaml

from backbone.base import Backbone
from backbone.build import build_backbone, default_conventions
from backbone.weights import Weights, load_weights, num_outputs, open_weights
from tasks.common.config import BackboneConfig
from tasks.common.runs.checkpoint import BEST, load_checkpoint
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.settings import CONFIG, read_config


def open_pretrained(config: Any) -> Weights | None:
    """The weights in `backbone.pretrained`, None for random initialisation.

    Raises:
        ValueError: if they cannot be read, or need other conventions than `backbone.conventions`.
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
    """The configured backbone with those weights.

    Raises:
        ValueError: if the weights do not fit the backbone.
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
    names = tuple(content["metadata"].get("class_names", ()))
    has_classifier = num_outputs(content["model"]) == len(names)  # a detector has class names, but no classifier
    return Weights(content["model"], conventions, str(run), names if has_classifier else ())


def with_conventions(config: Any, world: World = SINGLE_PROCESS) -> Any:
    """The settings with `backbone.conventions` set to those of the weights, so that a run does not need their file.

    Raises:
        ValueError: if the weights cannot be read or do not fit the backbone.
    """
    weights = open_pretrained(config)
    if weights is None:
        return config
    conventions = build_pretrained(config, weights).conventions
    if world.is_main:
        print(f"weights {weights.origin}, conventions of {weights.conventions}: {conventions}", file=sys.stderr)
    backbone = dataclasses.replace(config.backbone, conventions=weights.conventions)
    return dataclasses.replace(config, backbone=backbone)


def with_conventions_of(config: Any, run: Path) -> Any:
    """The settings with `backbone.conventions` copied from a run if not set, as in a restarted command."""
    if config.backbone.conventions is not None:
        return config
    saved = read_config(type(config), run / CONFIG).backbone.conventions
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, conventions=saved))


def without_pretrained(config: Any) -> Any:
    """The settings with random initialisation, for a model whose weights are loaded later or not needed."""
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, pretrained="none"))
