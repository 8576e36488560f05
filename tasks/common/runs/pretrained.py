"""Pretrained weights: of a publisher, a file, or a run of any task."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from backbone.base import Backbone
from backbone.build import build_backbone, default_conventions
from backbone.names import ConventionsName
from backbone.weights import Weights, load_weights, num_outputs, open_weights
from tasks.common.config import BackboneConfig
from tasks.common.runs.checkpoint import BEST, load_checkpoint
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.settings import CONFIG, read_config
from tasks.common.task import Task

AnyTask = TypeVar("AnyTask", bound=Task[Any])


@dataclass(frozen=True, kw_only=True)
class RunWeights(Weights):
    """Trained weights of a run of this suite.

    Attributes:
        task: name of the run's task.
        metadata: of its model.
    """

    task: str
    metadata: Mapping[str, Any]


def open_pretrained(config: Any) -> Weights | None:
    """The weights in `backbone.pretrained`, None for random initialisation.

    Raises:
        ValueError: if they cannot be read, or need other conventions than `backbone.conventions`.
    """
    backbone: BackboneConfig = config.backbone
    if backbone.pretrained == "none":
        return None
    run = Path(backbone.pretrained)
    weights: Weights = (
        _weights_of_run(run)
        if run.is_dir()
        else open_weights(backbone.pretrained, backbone.name, input_size=config.data.input_size)
    )
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


def _weights_of_run(run: Path) -> RunWeights:
    content = load_checkpoint(run / BEST)
    if not (run / CONFIG).is_file():
        raise ValueError(f"{run}: not a run folder: it has no {CONFIG}")
    settings = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))["backbone"]
    conventions = settings["conventions"] or default_conventions(settings["name"])
    names = tuple(content["metadata"].get("class_names", ()))
    has_classifier = num_outputs(content["model"]) == len(names)  # a detector has class names, but no classifier
    return RunWeights(
        content["model"],
        conventions,
        str(run),
        names if has_classifier else (),
        task=content["task"],
        metadata=content["metadata"],
    )


def with_conventions(config: Any) -> Any:
    """The settings with `backbone.conventions` set to those of the weights, so that a run does not need their file.

    Raises:
        ValueError: if the weights cannot be read or do not fit the backbone.
    """
    weights = open_pretrained(config)
    if weights is None:
        return config
    print(_describe(weights, config), file=sys.stderr)
    return _with_conventions(config, weights.conventions)


def use_pretrained(task: AnyTask, world: World = SINGLE_PROCESS) -> AnyTask:
    """The task with the conventions of its weights; a line says which they are, and what the network starts from.

    Raises:
        ValueError: if the weights cannot be read or do not fit the backbone.
    """
    weights = open_pretrained(task.config)
    if weights is None:
        return task
    line = _describe(weights, task.config)
    if world.is_main:
        print(f"{line}; of them the network starts from {task.kept(weights)}", file=sys.stderr)
    return task.with_backbone(_with_conventions(task.config, weights.conventions).backbone)


def _describe(weights: Weights, config: Any) -> str:
    conventions = build_pretrained(config, weights).conventions
    return f"weights {weights.origin}, conventions of {weights.conventions}: {conventions}"


def _with_conventions(config: Any, conventions: ConventionsName | None) -> Any:
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, conventions=conventions))


def with_conventions_of(config: Any, run: Path) -> Any:
    """The settings with `backbone.conventions` copied from a run if not set, as in a restarted command."""
    if config.backbone.conventions is not None:
        return config
    saved = read_config(type(config), run / CONFIG).backbone.conventions
    return _with_conventions(config, saved)


def with_backbone_of(config: Any, run: Path) -> Any:
    """The settings with all of a run's `backbone`."""
    return dataclasses.replace(config, backbone=read_config(type(config), run / CONFIG).backbone)


def without_pretrained(config: Any) -> Any:
    """The settings with random initialisation, for a model whose weights are loaded later or not needed."""
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, pretrained="none"))
