"""Open a folder that `export` has written with the postprocessing inside the file; imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tasks.common.config import TaskConfig
from tasks.common.deploy.exported import ExportedModel, ExportedPredictor
from tasks.common.deploy.session import MODEL
from tasks.common.runs.threshold import with_threshold
from tasks.common.runtime.threads import usable_threads
from tasks.common.settings import get_setting
from tasks.registry import inference_class


def exported_task(run: Path) -> str | None:
    """The name of the task that a folder was exported from; None if it is no export.

    Raises:
        ValueError: if its file cannot be read, or was not written by `export`.
    """
    path = run / MODEL
    return ExportedModel(path).task if path.is_file() else None


def open_exported(
    name: str, config: TaskConfig, run: str | Path | None, given: Collection[str] = ()
) -> ExportedPredictor[Any] | None:
    """What predicts by the file of an export, with its task; None for other runs, and exports with raw outputs.

    Args:
        name: of the task.
        config: the settings of the run.
        run: its folder; None for no run.
        given: keys that the user has set on the command line.

    Raises:
        ValueError: if it is of another task, its properties are damaged or do not fit the network, or a setting is
            built into the file.
    """
    if run is None or not (path := Path(run) / MODEL).is_file():
        return None
    model = ExportedModel(path, task=name, num_threads=usable_threads(config.loop.num_threads))
    if not model.has_postprocessing:
        return None
    for key, built_in in model.settings.items():
        if key in given and (value := get_setting(config, key)) != built_in:
            raise ValueError(f"{key}: {built_in} is built into {path}; export the run again with --{key} {value}")
    task = inference_class(name)(with_threshold(config, run), model.metadata)
    model.check_labels(task)
    return ExportedPredictor(task, model)
