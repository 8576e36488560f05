"""The one training loop, for every task and for distillation.

A run is a function of its configuration and data. Killed at any moment and resumed, it ends with the same weights (on a
GPU only with `loop.deterministic`): order and augmentation depend on (seed, epoch, row) alone, the learning rate on the
step, and all else is in the checkpoint.
"""

from __future__ import annotations

import reprlib
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from datasets.files import write_json
from datasets.loader import TrainingBatches, build_loader
from tasks.common.drawing.draw import draw_curves
from tasks.common.evaluation.evaluate import draw_examples, evaluate, evaluation_loader
from tasks.common.evaluation.report import epoch_line, is_new_best, metrics_as_json, write_csv
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import CURVES, LOG, METRICS, PICTURE
from tasks.common.runtime.device import compute_dtype, setup_device, synchronize_batch_norm
from tasks.common.runtime.distributed import SINGLE_PROCESS, World, shared_batch_size
from tasks.common.runtime.progress import Progress
from tasks.common.runtime.signals import stop_signals
from tasks.common.task import Objective, Task
from tasks.common.training.freeze import frozen_stages, set_trainable
from tasks.common.training.optim import EmaModel, build_optimizer, learning_rate
from tasks.common.training.state import TrainingState
from tasks.common.training.step import train_step

T = TypeVar("T")
WORTH_SAVING_S = 30  # of training, before an evaluation
READ_EVERY = 20  # steps between looks at the loss, each of which waits for the device


class InterruptedRunError(Exception):
    """The run was asked to stop (SIGTERM, Ctrl-C) and its checkpoint is written."""


def fit(
    task: Task[T], run: Path, *, objective: Objective | None = None, resume: bool = False, world: World = SINGLE_PROCESS
) -> dict[str, float]:
    """Train, evaluate as it goes, and leave log, checkpoints, metrics and pictures in the run folder.

    Args:
        task: what is evaluated.
        run: the run's folder; exists.
        objective: what is learnt; None for the task itself.
        resume: go on from its newest whole checkpoint.
        world: the processes that share each batch; the first one writes.

    Returns:
        The scores of the best checkpoint.

    Raises:
        ValueError: if the data cannot be used, the loss is not finite, or a checkpoint does not fit.
        InterruptedRunError: when SIGTERM or Ctrl-C came; the run can be resumed.
    """
    trainer = _Trainer(task, objective or task, run, world)
    if resume:
        trainer.restore()
    state, epochs = trainer.state, task.config.optim.epochs
    total_steps = epochs * trainer.steps_per_epoch
    with (
        stop_signals() as signals,
        Progress("training", total_steps, done=state.step, silent=not world.is_main) as progress,
    ):
        for epoch in range(len(state.history), epochs):
            trainer.train_epoch(epoch, signals, progress)
            row = trainer.close_epoch(epoch)
            progress.print(epoch_line(row, epochs, task.score_name))
            if world.any(bool(signals))[0]:  # the epoch's end has saved
                raise InterruptedRunError(f"stopped after step {state.step} of {total_steps}")
    return trainer.finish()


class _Trainer(Generic[T]):
    """What one run is made of, and what is done with it."""

    def __init__(self, task: Task[T], objective: Objective, run: Path, world: World) -> None:
        self.task, self.objective, self.run, self.world = task, objective, run, world
        self.optim, self.loop = task.config.optim, task.config.loop
        self.device = setup_device(self.loop)
        self.dtype = compute_dtype(self.loop, self.device)
        torch.manual_seed(task.config.seed)

        training_set, self.val_source = objective.training_set(), task.source("val")
        num_images = len(training_set)
        batch_size = shared_batch_size(num_images, self.optim, world)
        self.batches = TrainingBatches(
            num_images,
            batch_size,
            task.config.seed,
            order=objective.order(),
            rank=world.rank,
            world_size=world.size,
        )
        self.steps_per_epoch = len(self.batches) // self.optim.accumulate
        self.train_loader = build_loader(
            training_set,
            self.batches,
            num_workers=self.loop.num_workers,
            collate=objective.collate(),
            keep_workers=True,
            pin_memory=self.device.type == "cuda",
        )
        self.val_loader = evaluation_loader(task, self.val_source, self.optim.batch_size, world, keep_workers=True)
        self.unreadable = UnreadableImages(num_images, self.loop.max_unreadable_fraction)

        model = objective.build_model().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if world.size > 1:
            model = synchronize_batch_norm(model, self.optim, self.device, batch_size // world.size)
        self.state = TrainingState(
            model,
            None if self.optim.ema_decay is None else EmaModel(model, self.optim.ema_decay),
            build_optimizer(model, self.optim),
            torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16),
        )
        self.network = model
        self.num_frozen_stages: int | None = None  # None before the first epoch
        self.identity = {"task": task.name, "metadata": dict(task.metadata)}
        self.shape = {"num_images": num_images, "steps_per_epoch": self.steps_per_epoch}
        self.saved_at_s = time.monotonic()

    def train_epoch(self, epoch: int, signals: list[int], progress: Progress) -> None:
        """Do the steps that are left of an epoch, counted from 0.

        Raises:
            InterruptedRunError: when a signal has arrived, in any process; the checkpoint is written.
        """
        state, world, optim = self.state, self.world, self.optim
        first_step = state.step - epoch * self.steps_per_epoch
        self._set_trainable(epoch)
        self.batches.start_at(epoch, first_step * optim.accumulate)
        arriving = iter(self.train_loader)
        for step in range(first_step, self.steps_per_epoch):
            started = time.perf_counter()
            batches = [next(arriving) for _ in range(optim.accumulate)]
            state.wait_s += time.perf_counter() - started
            self.unreadable.add(line for batch in batches for line in batch.unreadable)
            # All processes decide alike: each of them takes part in every step, or none does.
            problem = self.unreadable.problem
            is_old = self._is_older_than(60 * self.loop.checkpoint_minutes)
            stop, save, fail = world.any(bool(signals), is_old, problem is not None)
            if fail:
                raise ValueError(next(filter(None, world.all_gather(problem))))

            # What dropout draws is a function of seed, step and process, not of what was drawn before.
            seeds = np.random.SeedSequence([self.task.config.seed, state.step, world.rank])
            torch.manual_seed(int(seeds.generate_state(1)[0]))
            lr = learning_rate(optim, state.step, self.steps_per_epoch)
            train_step(
                self.objective,
                self.network,
                state,
                batches,
                lr=lr,
                clip_norm=optim.clip_norm,
                dtype=self.dtype,
                world=world,
            )
            if state.step % READ_EVERY == 0:
                progress.describe(f"loss {state.mean_losses(world)['loss']:.3f}")
            state.total_s += time.perf_counter() - started
            progress.advance()
            if stop or (save and step + 1 < self.steps_per_epoch):  # else the epoch's end saves
                self._save()
            if stop:
                raise InterruptedRunError(f"stopped after step {state.step} of {optim.epochs * self.steps_per_epoch}")

    def _set_trainable(self, epoch: int) -> None:
        """Training mode, and gradients for all but the stages that are frozen in this epoch."""
        model = self.state.model
        frozen = frozen_stages(model, self.optim, epoch)
        learnable = [p for group in self.state.optimizer.param_groups for p in group["params"]]
        set_trainable(model, learnable, frozen, freeze_bn=self.optim.freeze_bn)
        if len(frozen) != self.num_frozen_stages:  # DDP looks at once at what there is to learn
            self.num_frozen_stages = len(frozen)
            network = self.world.wrap(model)
            self.network = torch.compile(network) if self.loop.compile else network

    def close_epoch(self, epoch: int) -> dict[str, Any]:
        """Evaluate if it is time, keep the best weights, and write checkpoint and log; returns the epoch's row."""
        optim, state, score_name, number = self.optim, self.state, self.task.score_name, epoch + 1
        is_evaluated = number % self.loop.evaluate_every == 0 or number == optim.epochs
        if is_evaluated and self.world.any(self._is_older_than(WORTH_SAVING_S))[0]:
            self._save()  # a kill while it is evaluated costs no step
        row = state.close_epoch(number, self.batches.batch_size * optim.accumulate, self.world)
        self.unreadable.merge_processes(self.world)
        if is_evaluated:
            evaluation = evaluate(self.task, state.evaluated_model, self.val_loader, world=self.world)
            row |= evaluation.scores
            if self.world.is_main and is_new_best(evaluation.scores[score_name], state.history, score_name):
                content = {"model": state.evaluated_model.state_dict(), "epoch": number}
                kept = {"metrics": evaluation.scores, "counts": evaluation.counts}
                checkpoint.save_best(self.run, self.identity | content | kept)
        state.history.append(row)
        self._save()
        if self.world.is_main:
            write_csv(self.run / LOG, state.history)
        return row

    def _is_older_than(self, seconds: float) -> bool:
        """Whether the last checkpoint is; the first process's clock counts."""
        return self.world.is_main and time.monotonic() - self.saved_at_s > seconds

    def _save(self) -> None:
        """Write `last.pt`; all processes call this together."""
        state = self.state.state_dict(self.world)
        if self.world.is_main:
            checkpoint.save_last(self.run, self.identity | self.shape | state)
        self.saved_at_s = time.monotonic()

    def restore(self) -> None:
        """Become the newest whole checkpoint.

        Raises:
            ValueError: if there is none, or it was made with other data.
        """
        content = checkpoint.load_last(self.run, self.task.name)
        for key, value in (self.identity | self.shape).items():
            if content.get(key) != value:
                raise ValueError(
                    f"{self.run}: cannot resume: its {key} is {reprlib.repr(content.get(key))}, but the data now give "
                    f"{reprlib.repr(value)}"
                )
        try:
            self.state.load_state_dict(content)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"{self.run}: cannot resume: its checkpoint is of another network, or of another version of this suite"
            ) from error
        if self.state.step != self.world.broadcast(self.state.step):
            raise ValueError(
                f"{self.run}: cannot resume: the processes see different files; all machines must share it"
            )

    def finish(self) -> dict[str, float]:
        """End the loading, and write what a person looks at, for the best checkpoint; returns its scores."""
        del self.train_loader, self.val_loader  # matplotlib's import keeps this frame, and so would keep the workers
        return self.world.broadcast(self._present() if self.world.is_main else {})

    def _present(self) -> dict[str, float]:
        best = checkpoint.load_checkpoint(self.run / checkpoint.BEST, self.task.name)
        scores: dict[str, float] = best["metrics"]
        model = self.state.evaluated_model
        model.load_state_dict(best["model"])
        write_json(self.run / METRICS, metrics_as_json(scores, best["counts"]) | {"epoch": best["epoch"]})
        draw_curves(self.state.history, self.task.score_name, self.run / CURVES)
        draw_examples(self.task, model, self.val_source, self.run / PICTURE)
        return scores
