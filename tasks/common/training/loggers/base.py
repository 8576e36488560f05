"""What loggers of other projects have in common: the names of scalars, what is sent when, and how a run is found again.

| scalars | when |
| --- | --- |
| `step/loss`, `step/loss_<part>`, `step/lr` | every 20 steps: the means since the last ones |
| `train/loss`, `train/lr`, `train/images_per_s`, ... | every epoch: the columns of `log.csv` |
| `val/<score>` | every evaluation |
| `best/<score>` | at the end: of the best checkpoint |
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.files import read_json, write_json
from tasks.common.runs.folder import CURVES, PICTURE
from tasks.common.training.callback import Callback, Training

RUN_IDS = "loggers.json"  # in the run folder: logger -> the run's id there
_OF_TRAINING = ("lr", "images_per_s", "wait_fraction")


class Logger(Callback):
    """Sends settings, scalars and pictures of a training somewhere; a subclass says where."""

    is_essential = False  # a full disk or a lost connection there costs no training

    def on_start(self, training: Training) -> None:
        """Begin a run there, or go on with the one of a resumed training."""
        self.training = training
        self.open()

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Send losses and learning rate."""
        self.log(step, {f"step/{name}": value for name, value in values.items()})

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Send a row of the log."""
        self.log(row["step"], epoch_scalars(row))

    def on_end(self, scores: Mapping[str, float]) -> None:
        """Send the best checkpoint's scores and the pictures of the run folder."""
        step = self.training.history[-1]["step"] if self.training.history else 0
        self.log(step, finite({f"best/{name}": value for name, value in scores.items()}))
        for name in (PICTURE, CURVES):
            if (self.training.run / name).is_file():
                self.log_picture(step, self.training.run / name)
        self.close(is_complete=True)

    def on_exception(self, error: BaseException) -> None:
        """Keep what was sent."""
        self.close(is_complete=False)

    @abstractmethod
    def open(self) -> None:
        """Begin or go on with a run, and send the settings of a new one."""

    @abstractmethod
    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Send scalars."""

    @abstractmethod
    def log_picture(self, step: int, path: Path) -> None:
        """Send a picture."""

    @abstractmethod
    def close(self, *, is_complete: bool) -> None:
        """Write everything that is left, and end the run there."""


def epoch_scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The scalars of a row of the log, without undefined scores."""
    return finite(
        {
            f"{'train' if name in _OF_TRAINING or name.startswith('loss') else 'val'}/{name}": value
            for name, value in row.items()
            if name not in ("epoch", "step")
        }
    )


def finite(scalars: Mapping[str, float]) -> dict[str, float]:
    """Those that are defined: an undefined score is no point of a curve."""
    return {name: value for name, value in scalars.items() if math.isfinite(value)}


def saved_run_id(run: Path, logger: str) -> str | None:
    """The id that a logger has given to the run of a folder; None for a new run."""
    return _saved_run_ids(run).get(logger)


def save_run_id(run: Path, logger: str, run_id: str) -> None:
    """Keep the id that a logger has given to the run of a folder, for when it is resumed."""
    write_json(run / RUN_IDS, _saved_run_ids(run) | {logger: run_id})


def _saved_run_ids(run: Path) -> dict[str, str]:
    ids: dict[str, str] = {}
    if (run / RUN_IDS).is_file():
        ids = read_json(run / RUN_IDS, "the ids of a run, by logger")
    return ids
