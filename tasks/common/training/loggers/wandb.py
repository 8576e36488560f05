"""Weights & Biases: a project for each task; WANDB_MODE=offline keeps a run in its folder for `wandb sync`."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from tasks.common.training.loggers.base import Logger, save_run_id, saved_run_id


class WandbLogger(Logger):
    """Sends to Weights & Biases.

    Its own environment variables act (WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, ...); without WANDB_PROJECT the project
    has the task's name.
    """

    def open(self) -> None:
        """See `Logger`."""
        import wandb  # only now: an optional package

        training = self.training
        run_id = saved_run_id(training.run, "wandb") or uuid.uuid4().hex[:8]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", training.task),
            name=str(training.run),
            id=run_id,
            resume="allow",
            dir=str(training.run),
            config=dict(training.settings),
            allow_val_change=True,  # a resumed run may have another device, and so on
        )
        save_run_id(training.run, "wandb", run_id)
        # Its own count of steps only rises, but a resumed run repeats those after its checkpoint.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Logger`."""
        self._run.log({"step": step, **scalars})

    def log_picture(self, step: int, path: Path) -> None:
        """See `Logger`."""
        import wandb

        self._run.log({"step": step, path.stem: wandb.Image(str(path))})

    def close(self, *, is_complete: bool) -> None:
        """See `Logger`."""
        self._run.finish(exit_code=0 if is_complete else 1)
