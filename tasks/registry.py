"""The registry of tasks: the one list that commands, tests and tables read."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.common.config import TaskConfig
    from tasks.common.inference_task import InferenceTask
    from tasks.common.task import Task

# A task is a package of this name below `tasks`, with `<Name>Config` and `<Name>Task`.
TASKS = ("attributes", "classification", "detection", "embedding", "geolocation", "segmentation")
NAMES = ("class_names", "attribute_names", "identities")  # lists of them in the metadata


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


def check_metadata(name: str, metadata: Mapping[str, Any], origin: object) -> None:
    """Check the metadata of a model, which may be anybody's.

    Args:
        name: of the task; another one than in TASKS is left to its own program.
        metadata: as they were read.
        origin: for the message.

    Raises:
        ValueError: if they lack what the task needs, or it cannot be read.
    """
    if name not in TASKS:
        return
    task = inference_class(name)
    problem = "has no " + " and no ".join(key for key in task.metadata_keys if key not in metadata)
    if problem == "has no ":
        try:
            for key in NAMES:
                _require_names(key, metadata.get(key, []))
            task.check_metadata(metadata)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            problem = f"is damaged ({error})"
        else:
            return
    raise ValueError(f"{origin}: not a model of tasks.{name}: its label map {problem}; make or download it again")


def _require_names(key: str, names: Any) -> None:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its {key} are no list of names")


def describe_tasks() -> str:
    """Each task with its summary and its first command."""
    lines = []
    for name in TASKS:
        summary = (importlib.import_module(f"tasks.{name}").__doc__ or "").split("\n")[0]
        lines += [f"{name:<16}{summary}", f"{'':<16}python -m tasks.{name} train"]
    return "\n".join(lines)
