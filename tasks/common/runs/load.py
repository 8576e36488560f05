"""Load a task and its network from a run folder, an exported network, or published weights."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tasks.common.config import TaskConfig
from tasks.common.deploy.onnx_file import MODEL, ExportedNetwork
from tasks.common.runs import checkpoint
from tasks.common.runs.pretrained import adopt_settings, describe_weights, open_pretrained, without_pretrained
from tasks.common.runs.threshold import with_threshold
from tasks.common.runtime.device import setup_device
from tasks.common.settings import CONFIG, read_config
from tasks.common.task import Task


def load_model(
    task_class: type[Task[Any]], config: TaskConfig, run: str | None, given: Collection[str] = ()
) -> tuple[Task[Any], nn.Module]:
    """The task and its network on the configured device.

    Args:
        task_class: of the task.
        config: the settings; those of the run, if there is one.
        run: folder of a run, whose best network is loaded; None for the weights in `pretrained`.
        given: keys that the user has set on the command line, which a published model does not replace.

    Raises:
        ValueError: if there is no such model, or it does not solve the task.
    """
    if run is not None:
        return _load_run(Path(run), task_class, config)
    config = with_threshold(config, run)
    weights = open_pretrained(config, task_class.name)
    assert weights is not None
    config = adopt_settings(config, weights, task_class.name, given)
    print(describe_weights(weights, config), file=sys.stderr)
    task = task_class.from_pretrained(config, weights)
    if task.metadata is not getattr(weights, "metadata", None):  # the weights are of a part of the network
        return task, task.build_model().to(setup_device(config.loop))
    task = task.with_settings(without_pretrained(config))
    return task, _build(task, weights.state, f"{weights.origin}: does not fit the settings")


def open_run(run: Path, task_class: type[Task[Any]], config_class: type[TaskConfig]) -> tuple[Task[Any], nn.Module]:
    """The task and best model of a run with the run's own settings; on the configured device."""
    return _load_run(run, task_class, read_config(config_class, run / CONFIG))


def _load_run(run: Path, task_class: type[Task[Any]], config: TaskConfig) -> tuple[Task[Any], nn.Module]:
    config = with_threshold(config, run)
    if (run / MODEL).is_file():
        return _load_exported(run / MODEL, task_class, config)
    path = run / checkpoint.BEST
    content = checkpoint.load_checkpoint(path, task_class.name)
    task = task_class(without_pretrained(config), content["metadata"])
    return task, _build(task, content["model"], f"{path}: does not fit the settings of the run")


def _build(task: Task[Any], state: Mapping[str, Tensor], problem: str) -> nn.Module:
    """The task's network with those weights, on the configured device.

    Raises:
        ValueError: if they do not fit; it begins with the problem.
    """
    network = task.build_model()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{problem}: {str(error).splitlines()[1].strip()}") from error
    return network.to(setup_device(task.config.loop))


def _load_exported(path: Path, task_class: type[Task[Any]], config: TaskConfig) -> tuple[Task[Any], nn.Module]:
    network = ExportedNetwork(path, task_class.name)
    task = task_class(without_pretrained(config), network.metadata)
    if network.input_size != task.config.data.input_size:
        raise ValueError(f"data.input_size: the exported network takes {network.input_size} px only")
    return task, network


def identify_run(run: Path, task: str | None = None) -> tuple[str, dict[str, Any]]:
    """The task and model metadata of a run.

    Raises:
        ValueError: if it cannot be read, or does not belong to the given task.
    """
    if (run / MODEL).is_file():
        network = ExportedNetwork(run / MODEL, task)
        return network.task, network.metadata
    content = checkpoint.load_checkpoint(run / checkpoint.BEST, task)
    return content["task"], content["metadata"]
