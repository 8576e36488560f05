"""The registry of tasks: the one list that commands, tests and tables read."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.common.config import TaskConfig
    from tasks.common.inference_task import InferenceTask
    from tasks.common.task import Task

# A task is a package of this name below `tasks`, with `<Name>Config` and `<Name>Task`.
TASKS = ("attributes", "classification", "detection", "embedding", "geolocation", "segmentation")


def config_class(name: str) -> type[TaskConfig]:
    """The settings class of a task; imports nothing heavy."""
    found: type[TaskConfig] = getattr(importlib.import_module(f"tasks.{name}.config"), f"{name.capitalize()}Config")
    return found


def task_class(name: str) -> type[Task[Any]]:
    """The class of a task; imports torch."""
    found: type[Task[Any]] = getattr(importlib.import_module(f"tasks.{name}.task"), f"{name.capitalize()}Task")
    return found


def inference_class(name: str) -> type[InferenceTask[Any]]:
    """The class of a task without its network; imports no torch."""
    module = importlib.import_module(f"tasks.{name}.inference")
    found: type[InferenceTask[Any]] = getattr(module, f"{name.capitalize()}Inference")
    return found


def describe_tasks() -> str:
    """Each task with its summary and its first command."""
    lines = []
    for name in TASKS:
        summary = (importlib.import_module(f"tasks.{name}").__doc__ or "").split("\n")[0]
        lines += [f"{name:<16}{summary}", f"{'':<16}python -m tasks.{name} train"]
    return "\n".join(lines)
