"""Load a task and its network from a run folder, an exported network, or published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from tasks.common.config import TaskConfig
from tasks.common.deploy.onnx_file import MODEL, ExportedNetwork
from tasks.common.runs import checkpoint
from tasks.common.runs.pretrained import with_conventions, without_pretrained
from tasks.common.runtime.device import setup_device
from tasks.common.settings import CONFIG, read_config
from tasks.common.task import Task


def load_model(task_class: type[Task[Any]], config: TaskConfig, run: str | None) -> tuple[Task[Any], nn.Module]:
    """The task and best model of a run, or of published weights if `run` is None; on the configured device."""
    if run is None:
        config = with_conventions(config)
        task = task_class.from_published(config)
        return task, task.build_model().to(setup_device(config.loop))
    return _load_run(Path(run), task_class, config)


def open_run(run: Path, task_class: type[Task[Any]], config_class: type[TaskConfig]) -> tuple[Task[Any], nn.Module]:
    """The task and best model of a run with the run's own settings; on the configured device."""
    return _load_run(run, task_class, read_config(config_class, run / CONFIG))


def _load_run(run: Path, task_class: type[Task[Any]], config: TaskConfig) -> tuple[Task[Any], nn.Module]:
    if (run / MODEL).is_file():
        return _load_exported(run / MODEL, task_class, config)
    path = run / checkpoint.BEST
    content = checkpoint.load_checkpoint(path, task_class.name)
    task = task_class(without_pretrained(config), content["metadata"])
    model = task.build_model()
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        reason = str(error).split("\n")[1].strip()
        raise ValueError(f"{path}: does not fit the settings of the run: {reason}") from error
    return task, model.to(setup_device(task.config.loop))


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
