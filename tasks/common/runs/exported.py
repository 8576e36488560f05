"""Open a folder that `export` has written with the postprocessing inside the file; imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tasks.common.config import TaskConfig
from tasks.common.deploy.exported import ExportedModel, ExportedPredictor, has_postprocessing
from tasks.common.deploy.session import MODEL, TASK, open_session
from tasks.common.runs.threshold import with_threshold
from tasks.common.settings import get_setting
from tasks.registry import inference_class


def is_exported(run: str | Path | None) -> bool:
    """Whether a run is a folder that `export` has written with the postprocessing inside; not with `--raw`.

    Raises:
        ValueError: if its file cannot be read.
    """
    return run is not None and (Path(run) / MODEL).is_file() and has_postprocessing(Path(run) / MODEL)


def exported_task(run: Path) -> str | None:
    """The name of the task that a folder was exported from; None if it is no export.

    Raises:
        ValueError: if its file cannot be read, or was not written by `export`.
    """
    path = run / MODEL
    if not path.is_file():
        return None
    task: str | None = open_session(path).get_modelmeta().custom_metadata_map.get(TASK)
    if task is None:
        raise ValueError(f"{path}: not written by `export`: it has no property '{TASK}'")
    return task


def open_exported(
    name: str, config: TaskConfig, run: str | Path, given: Collection[str] = ()
) -> ExportedPredictor[Any]:
    """What predicts by the file of an export, with its task.

    Args:
        name: of the task.
        config: the settings of the export.
        run: its folder.
        given: keys that the user has set on the command line.

    Raises:
        ValueError: if it is of another task, its properties are damaged, or a setting is built into the file.
    """
    path = Path(run) / MODEL
    model = ExportedModel(path, num_threads=config.loop.num_threads)
    if model.task != name:
        raise ValueError(f"{path}: was exported from the {model.task} task, not from {name}")
    for key, built_in in model.settings.items():
        value = get_setting(config, key)
        if key in given and value != built_in:
            raise ValueError(f"{key}: {built_in} is built into {path}; export the run again with --{key} {value}")
    task = inference_class(name)(with_threshold(config, run), model.metadata)
    return ExportedPredictor(task, model)
