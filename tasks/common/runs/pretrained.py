"""What `pretrained` names: a published model, a publisher, a file, or a run of any task, here or on the Hub."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from backbone.base import Backbone
from backbone.build import build_backbone, default_conventions
from backbone.names import parse_name
from backbone.published import download_once
from backbone.weights import Weights, load_weights, num_outputs, open_weights, weight_names
from tasks.common.config import BackboneConfig
from tasks.common.deploy.session import MODEL
from tasks.common.published import PUBLISHED_MODELS
from tasks.common.runs.card import HUB
from tasks.common.runs.checkpoint import BEST, LAST, load_checkpoint
from tasks.common.runs.hub import pull_run
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.settings import CONFIG, config_file, get_setting, read_config, replace_settings
from tasks.common.task import Task
from tasks.common.weights import TaskWeights
from tasks.registry import TASKS, config_class, task_class

AnyTask = TypeVar("AnyTask", bound=Task[Any])
BACKBONE = ("backbone.name", "backbone.channels")  # what a model of another task brings along, too


def open_pretrained(config: Any, task: str) -> Weights | None:
    """The weights that the setting `pretrained` names, None for random ones.

    Args:
        config: the settings.
        task: name of their task, whose models a file is taken for first.

    Raises:
        ValueError: if they cannot be read, or need other conventions than `backbone.conventions`.
    """
    if config.pretrained == "none":
        return None
    name, run = config.backbone.name, Path(config.pretrained)
    if run.name in (BEST, LAST) and run.is_file():
        raise ValueError(f"{run}: a checkpoint without the settings of its run; give the run folder, {run.parent}")
    weights = (
        _as_weights(*pull_run(config.pretrained), config.pretrained)
        if config.pretrained.startswith(HUB)
        else _weights_of_run(run)
        if run.is_dir()
        else _published_model(config.pretrained, task)
        or open_weights(config.pretrained, name, input_size=config.data.input_size)
    )
    if config.backbone.conventions not in (None, weights.conventions):
        raise ValueError(
            f"backbone.conventions: {config.backbone.conventions}, but the weights {weights.origin} need "
            f"{weights.conventions}"
        )
    return weights


def _published_model(name: str, task: str) -> TaskWeights | None:
    """The published model of that name, or in that file; None if it is neither."""
    rows = sorted((row for row in PUBLISHED_MODELS if row.name == name), key=lambda row: row.task != task)
    if rows:
        row = rows[0]
        file, advice = row.file.replace("/", "-"), "pass its path as --pretrained"
        path, tasks = download_once(row.url, file, row.sha256, advice=advice, member=row.member), [row.task]
    else:
        path, tasks = Path(name), [task, *(other for other in TASKS if other != task)]
    if not path.is_file():
        return None
    return next(filter(None, (task_class(task).read_published(path) for task in tasks)), None)


def _weights_of_run(run: Path) -> TaskWeights:
    if (run / MODEL).is_file():
        raise ValueError(f"{run}: an exported network, which --run takes; expected the run that it was exported from")
    return _as_weights(config_file(run), load_checkpoint(run / BEST), str(run))


def _as_weights(file: Path, content: Mapping[str, Any], origin: str) -> TaskWeights:
    """The weights of a run.

    Args:
        file: with its settings.
        content: of its checkpoint.
        origin: for messages.

    Raises:
        ValueError: if they are of a classifier with another number of classes than its label map.
    """
    config = read_config(config_class(content["task"]), file)
    names = tuple(content["metadata"].get("class_names", ()))
    num_classes = num_outputs(content["model"])  # a detector has class names, but no classifier
    weights = TaskWeights(
        content["model"],
        config.backbone.conventions or default_conventions(config.backbone.name),
        origin,
        names if num_classes else (),
        task=content["task"],
        metadata=content["metadata"],
        settings={key: get_setting(config, key) for key in config.settings_of_model()},
    )
    if weights.class_names:
        weights.check_rows("head", num_classes, names)
    return weights


def build_pretrained(config: Any, weights: Weights | None) -> Backbone:
    """The configured backbone with those weights.

    Raises:
        ValueError: if the weights do not fit the backbone.
    """
    conventions = config.backbone.conventions if weights is None else weights.conventions
    backbone = build_backbone(config.backbone.name, conventions, config.backbone.channels)
    if weights is not None:
        load_weights(backbone, weights)
        _check_untold(config.backbone.name, weights)
    return backbone


def _check_untold(name: str, weights: Weights) -> None:
    """Make sure that weights whose shapes fit a backbone were trained with its strides and activations.

    Raises:
        ValueError: if they were not.
    """
    given = weights.settings.get("backbone.name") if isinstance(weights, TaskWeights) else None
    made_for = parse_name(given or BackboneConfig().name)  # publishers have no other strides and activations
    if parse_name(name).untold != made_for.untold:
        raise ValueError(
            f"{weights.origin}: made for another network: their shapes fit {name}, but they were trained with other "
            "strides or activations; expected another --backbone.name, or --pretrained none"
        )


def adopt_settings(config: Any, weights: Weights, task: str, given: Collection[str] = ()) -> Any:
    """The settings with those that the weights' network was built with, so that it can be built again without them.

    Args:
        config: the settings.
        weights: of which a model of the same task brings its architecture, and one of another its backbone.
        task: name of the settings' task.
        given: keys that the user has set on the command line, which stay; another backbone has its own channels.
    """
    settings: dict[str, Any] = {}
    if isinstance(weights, TaskWeights):
        settings = {key: weights.settings[key] for key in weights.settings if key in BACKBONE or weights.task == task}
    settings["backbone.conventions"] = weights.conventions
    kept = {*given, *BACKBONE} if BACKBONE[0] in given else given
    return replace_settings(config, {key: value for key, value in settings.items() if key not in kept})


def use_pretrained(task: AnyTask, given: Collection[str] = (), world: World = SINGLE_PROCESS) -> tuple[AnyTask, bool]:
    """The task with the settings of its weights, see `adopt_settings`, and whether the whole network is from them.

    A line says what the network starts from.

    Raises:
        ValueError: if the weights cannot be read or do not fit the backbone.
    """
    weights = open_pretrained(task.config, task.name)
    if weights is None:
        return task, False
    task = task.with_settings(adopt_settings(task.config, weights, task.name, given))
    kept = task.kept(weights)  # checks that they fit
    network = task.with_settings(without_pretrained(task.config)).build_model()
    num_kept, num_tensors = sum(kept.values()), len(weight_names(network.state_dict()))
    if world.is_main:
        parts = ", ".join(f"{part} ({count})" for part, count in kept.items())
        print(
            f"{describe_weights(weights, task.config)}; {num_kept} of the network's {num_tensors} tensors are from "
            f"them: {parts}",
            file=sys.stderr,
        )
    return task, num_kept == num_tensors


def describe_weights(weights: Weights, config: Any) -> str:
    """Where weights are from, and their conventions, in a line."""
    if weights.conventions is None:
        return f"weights {weights.origin}"
    conventions = build_backbone(config.backbone.name, weights.conventions).conventions
    return f"weights {weights.origin}, conventions of {weights.conventions}: {conventions}"


def with_settings_of(config: Any, run: Path, given: Collection[str] = ()) -> Any:
    """The settings with what `use_pretrained` or `extend_run` has put into a run's, which a restarted command lacks."""
    saved = read_config(type(config), run / CONFIG)
    keys = [key for key in ("pretrained", *config.ARCHITECTURE) if key not in given]
    return replace_settings(config, {key: get_setting(saved, key) for key in keys})


def without_pretrained(config: Any) -> Any:
    """The settings with random initialisation, for a model whose weights are loaded later or not needed."""
    return replace_settings(config, {"pretrained": "none"})
