"""Open whatever predicts: an export without torch, everything else with it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tasks.common.config import TaskConfig
from tasks.common.prediction.model import Model
from tasks.common.runs.exported import open_exported
from tasks.registry import task_class


def open_model(name: str, config: TaskConfig, run: str | None, given: Collection[str] = ()) -> Model[Any]:
    """A model for predictions; changes no global state.

    Args:
        name: of the task.
        config: the settings; those of the run, if there is one.
        run: folder of a run or an export; None for the weights in `pretrained`.
        given: keys that the user has set on the command line.

    Raises:
        ValueError: if there is no such model, or it does not solve the task.
    """
    if (exported := open_exported(name, config, run, given)) is not None:
        return _as_model(exported, run)
    from tasks.common.evaluation.evaluate import TorchPredictor  # torch is slow to import
    from tasks.common.runs import load

    task, network, _ = load.open_model(task_class(name), config, run, given)
    return _as_model(TorchPredictor(task, network), run)


def load_model(name: str, config: TaskConfig, run: str | None, given: Collection[str] = ()) -> Model[Any]:
    """The same for a command, with the global options for its device; a line says which published weights these are."""
    if (exported := open_exported(name, config, run, given)) is not None:
        return _as_model(exported, run)
    from tasks.common.evaluation.evaluate import TorchPredictor  # torch is slow to import
    from tasks.common.runs import load

    task, network = load.load_model(task_class(name), config, run, given)
    return _as_model(TorchPredictor(task, network), run)


def _as_model(predictor: Any, run: str | None) -> Model[Any]:
    return Model(predictor.task, predictor, None if run is None else Path(run))
