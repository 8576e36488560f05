"""The training loop, shared by all tasks and by distillation.

A run is a function of its configuration and data. Killed at any moment and resumed, it ends with the same weights (on a
GPU only with `loop.deterministic`): order and augmentation depend only on (seed, epoch, row), the learning rate on the
step, and everything else is in the checkpoint.
"""

from __future__ import annotations

import reprlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from datasets.files import write_json
from datasets.loader import TrainingBatches, build_loader
from datasets.progress import Progress
from tasks.common.evaluation.evaluate import TorchPredictor, evaluate, evaluation_loader
from tasks.common.evaluation.report import epoch_line, has_stalled, is_new_best, metrics_as_json
from tasks.common.evaluation.scoring import NO_IMAGES, draw_examples, validation_source
from tasks.common.evaluation.thresholds import write_table
from tasks.common.evaluation.unreadable import LeftOutInTraining, UnreadableImages
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import METRICS, PICTURE
from tasks.common.runtime.device import compute_dtype, setup_device, synchronize_batch_norm
from tasks.common.runtime.distributed import SINGLE_PROCESS, World, shared_batch_size
from tasks.common.runtime.signals import stop_signals
from tasks.common.task import Objective, Task
from tasks.common.training.callback import Callback, watched_by
from tasks.common.training.freeze import frozen_stages, set_trainable
from tasks.common.training.optim import EmaModel, build_optimizer, learning_rate
from tasks.common.training.run_log import describe, watchers, write_model_card
from tasks.common.training.sparsity import keep_zeros
from tasks.common.training.state import TrainingState
from tasks.common.training.step import train_step

T = TypeVar("T")
SAVE_AFTER_S = 30  # a checkpoint older than this is renewed before an evaluation
LOG_EVERY_STEPS = 20  # reading the loss synchronises with the device


class InterruptedRunError(Exception):
    """The run was stopped by SIGTERM or Ctrl-C, after writing a checkpoint."""


def fit(
    task: Task[T],
    run: Path,
    *,
    objective: Objective | None = None,
    resume: bool = False,
    weights: Mapping[str, Tensor] | None = None,
    score_start: bool = False,
    world: World = SINGLE_PROCESS,
    callbacks: Sequence[Callback] = (),
) -> dict[str, float]:
    """Train and evaluate; write log, checkpoints, metrics and pictures to the run folder.

    Without validation images (`data.val_fraction: null`) there are no scores, and the last weights are the best.

    Args:
        task: to evaluate.
        run: an existing run folder.
        objective: the training objective; None for the task itself.
        resume: whether to resume from the newest intact checkpoint.
        weights: initial weights of the whole network, in place of those in the settings.
        score_start: whether the initial weights are scored, as epoch 0, and kept if no epoch is better.
        world: the processes that share each batch; rank 0 writes.
        callbacks: told of the training on rank 0, after the run's own log and the loggers in `loop.loggers`.

    Returns:
        The scores of the best checkpoint; none without validation images.

    Raises:
        ValueError: if the data cannot be used, the loss is not finite, or a checkpoint does not fit.
        OSError: if the disk is full; what was saved is intact, and the run can be resumed.
        InterruptedRunError: after SIGTERM or Ctrl-C; the run can be resumed.
    """
    callback = watchers(task.config.loop.logger_names, callbacks, world)
    trainer = _Trainer(task, objective or task, run, world, weights, callback)
    if resume:
        trainer.restore()
    if task.config.optim.keep_zeros:
        keep_zeros(trainer.state.model)
    state, epochs = trainer.state, task.config.optim.epochs
    total_steps = epochs * trainer.steps_per_epoch
    with watched_by(callback, describe(task, run, state.step, state.history)):
        if score_start and not resume and trainer.val_loader is not None:
            callback.on_epoch(trainer.score_start())
        with (
            stop_signals() as signals,
            Progress("training", total_steps, done=state.step, silent=not world.is_main) as progress,
        ):
            for epoch in range(state.num_epochs, epochs):
                if trainer.has_stalled():
                    progress.print(
                        f"stopped after epoch {epoch}: {task.score_name} has not risen for {task.config.optim.patience}"
                        " epochs (optim.patience)"
                    )
                    break
                trainer.train_epoch(epoch, signals, progress)
                row = trainer.close_epoch(epoch)
                callback.on_epoch(row)
                progress.print(epoch_line(row, epochs, task.score_name))
                if world.any(bool(signals))[0]:  # the checkpoint was written at the end of the epoch
                    raise InterruptedRunError(f"stopped after step {state.step} of {total_steps}")
        scores = trainer.finish()
        callback.on_end(scores)
    return scores


class _Trainer(Generic[T]):
    """The data, model and state of one run."""

    def __init__(
        self,
        task: Task[T],
        objective: Objective,
        run: Path,
        world: World,
        weights: Mapping[str, Tensor] | None,
        callback: Callback,
    ) -> None:
        self.task, self.objective, self.run, self.world, self.callback = task, objective, run, world, callback
        self.optim, self.loop = task.config.optim, task.config.loop
        self.device = setup_device(self.loop)
        self.dtype = compute_dtype(self.loop, self.device)
        torch.manual_seed(task.config.seed)

        training_set, self.val_source = objective.training_set(), validation_source(task)
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
        self.val_loader = (
            None
            if self.val_source is None
            else evaluation_loader(task, self.val_source, self.optim.batch_size, world, keep_workers=True)
        )
        self.unreadable = UnreadableImages(num_images, self.loop.max_unreadable_fraction, LeftOutInTraining)

        model: Any = objective.build_model()
        if weights is not None:
            model.load_state_dict(weights)
        model = model.to(self.device, memory_format=torch.channels_last)
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

    def score_start(self) -> dict[str, Any]:
        """Evaluate the initial weights as epoch 0; returns its log row."""
        self.state.history.append(self._evaluate({"epoch": 0, "step": 0}))
        return self.state.history[-1]

    def train_epoch(self, epoch: int, signals: list[int], progress: Progress) -> None:
        """Run the remaining steps of an epoch, counted from 0.

        Raises:
            InterruptedRunError: after a signal in any process; the checkpoint is written.
        """
        state, world, optim = self.state, self.world, self.optim
        first_step = state.step - epoch * self.steps_per_epoch
        self._set_trainable(epoch)
        self.batches.start_at(epoch, first_step * optim.accumulate)
        loader = iter(self.train_loader)
        for step in range(first_step, self.steps_per_epoch):
            started = time.perf_counter()
            batches = [next(loader) for _ in range(optim.accumulate)]
            state.wait_s += time.perf_counter() - started
            self.unreadable.add(image for batch in batches for image in batch.unreadable)
            # The flags are reduced over all processes, since all must take part in each step or none.
            problem = self.unreadable.problem
            is_old = self._is_older_than(60 * self.loop.checkpoint_minutes)
            stop, save, fail = world.any(bool(signals), is_old, problem is not None)
            if fail:
                raise ValueError(next(filter(None, world.all_gather(problem))))

            # Dropout depends on (seed, step, rank) alone, so that a resumed run repeats it.
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
            if state.step % LOG_EVERY_STEPS == 0:
                losses = state.recent_losses(world)
                progress.describe(f"loss {losses['loss']:.3f}")
                self.callback.on_step(state.step, {"lr": lr, **losses})
            state.total_s += time.perf_counter() - started
            progress.advance()
            if stop or (save and step + 1 < self.steps_per_epoch):  # the end of the epoch saves anyway
                self._save()
            if stop:
                raise InterruptedRunError(f"stopped after step {state.step} of {optim.epochs * self.steps_per_epoch}")

    def _set_trainable(self, epoch: int) -> None:
        """Set training mode, and freeze the stages that are frozen in this epoch."""
        model = self.state.model
        frozen = frozen_stages(model, self.optim, epoch)
        trainable = [p for group in self.state.optimizer.param_groups for p in group["params"]]
        set_trainable(model, trainable, frozen, freeze_bn=self.optim.freeze_bn)
        if len(frozen) != self.num_frozen_stages:  # DDP registers trainable parameters when it wraps a model
            self.num_frozen_stages = len(frozen)
            network = self.world.wrap(model)
            self.network = torch.compile(network) if self.loop.compile else network

    def close_epoch(self, epoch: int) -> dict[str, Any]:
        """Evaluate if due, save the best weights, write the checkpoint; returns the epoch's log row."""
        optim, state, num_epochs = self.optim, self.state, epoch + 1
        is_evaluated = num_epochs % self.loop.evaluate_every == 0 or num_epochs == optim.epochs
        if is_evaluated and self.world.any(self._is_older_than(SAVE_AFTER_S))[0]:
            self._save()  # so that a kill during the evaluation loses no step
        row = state.close_epoch(num_epochs, self.batches.batch_size * optim.accumulate, self.world)
        state.check_finite(self.world)  # before the best weights are saved
        self.unreadable.merge_processes(self.world)
        state.history.append(self._evaluate(row) if is_evaluated else row)
        self._save()
        return state.history[-1]

    def _evaluate(self, row: dict[str, Any]) -> dict[str, Any]:
        """An epoch's row with its scores, if there are validation images; the best weights are saved."""
        model, score_name = self.state.evaluated_model, self.task.score_name
        scores, counts, is_best, evaluation = {}, NO_IMAGES, True, None  # without validation images
        if self.val_loader is not None:
            evaluation = evaluate(self.task, model, self.val_loader, world=self.world)
            scores, counts = evaluation.scores, evaluation.counts
            is_best = is_new_best(scores[score_name], self.state.history, score_name)
        if self.world.is_main and is_best:
            weights = {"model": model.state_dict(), "epoch": row["epoch"]}
            checkpoint.save_best(self.run, self.identity | weights | {"metrics": scores, "counts": counts})
            if evaluation is not None:
                write_table(evaluation.metric.count_at_thresholds(), self.run)
        return row | scores

    def has_stalled(self) -> bool:
        """Whether the score has not risen for `optim.patience` epochs; a function of the log, as resuming needs."""
        patience = self.optim.patience
        return patience is not None and has_stalled(self.state.history, self.task.score_name, patience)

    def _is_older_than(self, seconds: float) -> bool:
        """Whether the last checkpoint is older, by rank 0's clock; False on other ranks."""
        return self.world.is_main and time.monotonic() - self.saved_at_s > seconds

    def _save(self) -> None:
        """Write `last.pt`; a collective call."""
        state = self.state.state_dict(self.world)
        if self.world.is_main:
            checkpoint.save_last(self.run, self.identity | self.shape | state)
            self.callback.on_checkpoint(self.state.step)
        self.saved_at_s = time.monotonic()

    def restore(self) -> None:
        """Restore the state from the newest intact checkpoint.

        Raises:
            ValueError: if there is none, or it belongs to other data.
        """
        content = checkpoint.load_last(self.run, self.task.name)
        before = content["metadata"] | content
        for key, value in (dict(self.task.metadata) | self.shape).items():
            if before.get(key) != value:
                raise ValueError(
                    f"{self.run}: cannot resume: the data have changed: {key} was {reprlib.repr(before.get(key))} and "
                    f"is now {reprlib.repr(value)}; give --data.root the data as they were, or start a new run from "
                    f"these weights with --pretrained {self.run}"
                )
        try:
            self.state.load_state_dict(content)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"{self.run}: cannot resume: its checkpoint belongs to another network or another version of this suite"
            ) from error
        if self.state.step != self.world.broadcast(self.state.step):
            raise ValueError(
                f"{self.run}: cannot resume: the processes see different checkpoints; put the run on a shared disk"
            )

    def finish(self) -> dict[str, float]:
        """Stop the loaders; write metrics and pictures of the best checkpoint; returns its scores."""
        del self.train_loader, self.val_loader  # matplotlib's import keeps a reference to this frame, hence the workers
        return self.world.broadcast(self._write_results() if self.world.is_main else {})

    def _write_results(self) -> dict[str, float]:
        best = checkpoint.load_checkpoint(self.run / checkpoint.BEST, self.task.name)
        scores: dict[str, float] = best["metrics"]
        model = self.state.evaluated_model
        model.load_state_dict(best["model"])
        write_json(self.run / METRICS, metrics_as_json(scores, best["counts"]) | {"epoch": best["epoch"]})
        source = self.task.source("train") if self.val_source is None else self.val_source
        draw_examples(self.task, TorchPredictor(self.task, model), source, self.run / PICTURE)
        write_model_card(self.task, model, self.run, self.shape["num_images"], scores, best["counts"])
        return scores
