"""Who is told of a training: the log and curves that every run folder has, loggers, and the caller's callbacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tasks.common.deploy.inference import inference_cost
from tasks.common.drawing.plot import draw_curves
from tasks.common.evaluation.report import write_csv
from tasks.common.runs.card import write_card
from tasks.common.runs.checkpoint import check_is_there
from tasks.common.runs.folder import CURVES, LOG
from tasks.common.runtime.distributed import World
from tasks.common.task import Task
from tasks.common.training.callback import Callback, Callbacks, Training
from tasks.common.training.loggers.table import build_loggers


class RunLog(Callback):
    """Writes `log.csv` after each epoch, and `curves.png` at the end; neither for a training without epochs."""

    def on_start(self, training: Training) -> None:
        """Keep the training, whose history grows; write what a run that was killed could not."""
        self._training = training
        if training.history:
            write_csv(training.run / LOG, training.history)

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Write all rows, so that a resumed run has those from before."""
        check_is_there(self._training.run)
        write_csv(self._training.run / LOG, self._training.history)

    def on_end(self, scores: Mapping[str, float]) -> None:
        """Draw the curves."""
        training = self._training
        if training.history:
            draw_curves(training.history, training.score_name, training.run / CURVES)


def watchers(loggers: Sequence[str], callbacks: Sequence[Callback], world: World) -> Callback:
    """The run's own log, loggers by name and further callbacks as one; nobody but in the first process."""
    return Callbacks([RunLog(), *build_loggers(loggers), *callbacks] if world.is_main else [])


def describe(task: Task[Any], run: Path, step: int = 0, history: Sequence[Mapping[str, Any]] = ()) -> Training:
    """What callbacks are told of a training at its start; see `Training`."""
    return Training(run, task.name, dataclasses.asdict(task.config), task.score_name, step, history)


def write_model_card(
    task: Task[Any],
    model: nn.Module,
    run: Path,
    num_images: int,
    scores: Mapping[str, float],
    counts: Mapping[str, int],
) -> None:
    """Write the model card of a complete training.

    Args:
        task: that was trained.
        model: its best network.
        run: the run folder.
        num_images: for training.
        scores: of the network, if any.
        counts: of the validation images.
    """
    cost = inference_cost(model, task.config.data.input_size)
    write_card(
        task,
        run,
        num_images=num_images,
        mult_adds=cost.mult_adds,
        num_params=cost.num_params,
        scores=scores,
        num_scored=counts["num_images"],
    )
