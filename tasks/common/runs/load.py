"""Load a task and its network from a run folder, an exported network, or published weights."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.words import join_words
from tasks.common.config import TaskConfig
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.onnx_file import ExportedNetwork
from tasks.common.deploy.session import MODEL
from tasks.common.published import PUBLISHED_MODELS
from tasks.common.runs import checkpoint
from tasks.common.runs.pretrained import adopt_settings, describe_weights, open_pretrained, without_pretrained
from tasks.common.runs.threshold import with_threshold
from tasks.common.runtime.device import find_device, setup_device
from tasks.common.settings import CONFIG, read_config
from tasks.common.task import Task
from tasks.registry import TASKS, task_class


def load_model(
    task_class: type[Task[Any]], config: TaskConfig, run: str | None, given: Collection[str] = ()
) -> tuple[Task[Any], nn.Module]:
    """What a command works with: `open_model`, with the global options for its device; says which weights these are."""
    setup_device(config.loop)
    task, network, line = open_model(task_class, config, run, given)
    if line is not None:
        print(line, file=sys.stderr)
    return task, network


def open_model(
    task_class: type[Task[Any]], config: TaskConfig, run: str | None, given: Collection[str] = ()
) -> tuple[Task[Any], nn.Module, str | None]:
    """The task and its network on the configured device, for predictions; of published weights also what they are.

    Args:
        task_class: of the task.
        config: the settings; those of the run, if there is one.
        run: folder of a run, whose best network is loaded; None for the weights in `pretrained`.
        given: keys that the user has set on the command line, which a published model does not replace.

    Raises:
        ValueError: if there is no such model, or it does not solve the task.
    """
    if run is not None:
        return *_load_run(Path(run), task_class, config), None
    config = with_threshold(config, run)
    weights = open_pretrained(config, task_class.name)
    assert weights is not None
    config = adopt_settings(config, weights, task_class.name, given)
    task = task_class.from_pretrained(config, weights)
    line = describe_weights(weights, config)
    if task.metadata is not getattr(weights, "metadata", None):  # the weights are of a part of the network
        return task, _for_prediction(task, _new_network(task)), line
    task = task.with_settings(without_pretrained(config))
    return task, _build(task, weights.state, f"{weights.origin}: does not fit the settings"), line


def open_run(run: Path, task_class: type[Task[Any]], config_class: type[TaskConfig]) -> tuple[Task[Any], nn.Module]:
    """The task and best model of a run with the run's own settings; on the configured device."""
    return _load_run(run, task_class, read_config(config_class, run / CONFIG))


def refuse_export(run: str | None) -> None:
    """Raise a ValueError if a run is an exported network, for commands that need the trained one."""
    if run and (Path(run) / MODEL).is_file():
        raise ValueError(f"{run}: is an exported network; give the run that it was exported from")


def _load_run(run: Path, task_class: type[Task[Any]], config: TaskConfig) -> tuple[Task[Any], nn.Module]:
    config = with_threshold(config, run)
    if (run / MODEL).is_file():
        return _load_exported(run / MODEL, task_class, config)
    path = run / checkpoint.BEST
    content = checkpoint.load_checkpoint(path, task_class.name)
    task = _build_task(task_class, config, content["metadata"], run)
    return task, _build(task, content["model"], f"{path}: does not fit the settings of the run and its own label map")


def _build_task(task_class: type[Task[Any]], config: TaskConfig, metadata: Mapping[str, Any], run: Path) -> Task[Any]:
    """The task of a run. Raises: ValueError, naming the run, if its settings or those given do not fit its metadata."""
    try:
        return task_class(without_pretrained(config), metadata)
    except ValueError as error:
        raise ValueError(f"{run}: {error}") from error


def _build(task: Task[Any], state: Mapping[str, Tensor], problem: str) -> nn.Module:
    """The task's network with those weights, for predictions.

    Raises:
        ValueError: if they do not fit; it begins with the problem.
    """
    network = _new_network(task)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip().rstrip(".")
        raise ValueError(
            f"{problem}: {reason}; give those that it was trained with, or train or download it again"
        ) from error
    except ValueError as error:  # of a module's own state, as a gallery
        raise ValueError(f"{problem}: {error}") from error
    return _for_prediction(task, network)


def _new_network(task: Task[Any]) -> nn.Module:
    """The task's network; its random weights, which are not used, leave torch's random numbers as they are."""
    with torch.random.fork_rng(devices=()):
        return task.build_model()


def _for_prediction(task: Task[Any], network: nn.Module) -> nn.Module:
    """The network in evaluation mode, on the configured device."""
    return network.to(find_device(task.config.loop)).eval().requires_grad_(False)


def _load_exported(path: Path, task_class: type[Task[Any]], config: TaskConfig) -> tuple[Task[Any], nn.Module]:
    model = ExportedModel(path, task=task_class.name)
    task = _build_task(task_class, config, model.metadata, path.parent)
    if model.input_size != task.config.data.input_size:
        raise ValueError(f"data.input_size: the exported network takes {model.input_size} px only")
    model.check_labels(task)
    return task, ExportedNetwork(model).eval()


def identify_run(run: Path, task: str | None = None) -> tuple[str, dict[str, Any]]:
    """The task and model metadata of a run.

    Raises:
        ValueError: if it cannot be read, or does not belong to the given task.
    """
    if (run / MODEL).is_file():
        model = ExportedModel(run / MODEL, task=task)
        return model.task, model.metadata
    content = checkpoint.load_checkpoint(run / checkpoint.BEST, task)
    return content["task"], content["metadata"]


def identify_published(model: str) -> str | None:
    """The task that published weights solve, by their name or their file; None if they solve none by themselves.

    Raises:
        ValueError: if the file is damaged, or solves several tasks.
    """
    tasks = [row.task for row in PUBLISHED_MODELS if row.name == model]
    if not tasks and Path(model).is_file():
        found = (task_class(task).read_published(Path(model)) for task in TASKS)
        tasks = [weights.task for weights in found if weights is not None]
    tasks = sorted(set(tasks))
    if len(tasks) > 1:
        raise ValueError(f"{model}: solves the tasks {join_words(tasks)}; say which one, as in task={tasks[0]!r}")
    return tasks[0] if tasks else None
