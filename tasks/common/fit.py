"""The one training loop, for every task and for distillation.

A run is a function of its configuration and data. Killed at any moment and resumed, it ends with the same weights:
order and augmentation depend on (seed, epoch, row) alone, the learning rate on the step, and all else is in the
checkpoint.
"""

from __future__ import annotations

import math
import reprlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from datasets.files import write_json
from datasets.loader import TrainingBatches, TransformedDataset, build_loader
from datasets.types import Batch
from tasks.common import checkpoint
from tasks.common.device import autocast, compute_dtype, in_fp32, open_device
from tasks.common.distributed import ALONE, World
from tasks.common.draw import draw_curves
from tasks.common.evaluate import draw_examples, evaluate, evaluation_loader
from tasks.common.freeze import frozen_stages, set_learning
from tasks.common.optim import averaged_copy, build_optimizer, learning_rate
from tasks.common.progress import Progress
from tasks.common.report import best_score, epoch_line, metrics_as_json, write_csv
from tasks.common.state import TrainingState
from tasks.common.task import Trainable
from tasks.common.unreadable import UnreadableImages

T = TypeVar("T")
LOG, METRICS, CURVES, PICTURE = "log.csv", "metrics.json", "curves.png", "predictions.png"


class InterruptedRunError(Exception):
    """The run was asked to stop (SIGTERM, Ctrl-C) and its checkpoint is written."""


def fit(task: Trainable[T], run: Path, *, resume: bool = False, world: World = ALONE) -> dict[str, float]:
    """Train, evaluate as it goes, and leave log, checkpoints, metrics and pictures in the run folder.

    Args:
        task: what to train.
        run: the run's folder; exists.
        resume: go on from its newest whole checkpoint.
        world: the processes that share each batch; the first one writes.

    Returns:
        The metrics of the best checkpoint, as in `metrics.json`.

    Raises:
        ValueError: if the data cannot be used, the loss is not finite, or a checkpoint does not fit.
        InterruptedRunError: when SIGTERM or Ctrl-C came; the run can be resumed.
    """
    trainer = _Trainer(task, run, world)
    if resume:
        trainer.restore()
    state, total_steps = trainer.state, trainer.total_steps
    with (
        _stop_signals() as arrived,
        Progress("training", total_steps, done=state.step, silent=not world.is_main) as progress,
    ):
        while state.step < total_steps:
            stopped = False
            for _ in trainer.rest_of_epoch():
                stopped = world.any(bool(arrived))
                progress.advance(text=f"loss {state.mean_loss:.3f}")
                if state.step % trainer.steps_per_epoch and (stopped or trainer.checkpoint_is_due()):
                    trainer.save()
                    if stopped:
                        raise InterruptedRunError(f"stopped after step {state.step} of {total_steps}")
            row = trainer.close_epoch()
            progress.print(epoch_line(row, task.config.optim.epochs, task.score_name))
            if stopped and state.step < total_steps:
                raise InterruptedRunError(f"stopped after step {state.step} of {total_steps}")
    return trainer.finish()


class _Trainer(Generic[T]):
    """What one run is made of, and what is done with it; the order in which is `fit`'s."""

    def __init__(self, task: Trainable[T], run: Path, world: World) -> None:
        self.task, self.run, self.world = task, run, world
        optim, loop = task.config.optim, task.config.loop
        self.device = open_device(loop)
        self.dtype = compute_dtype(loop, self.device)
        torch.manual_seed(task.config.seed)

        train_source, self.val_source = task.source("train"), task.source("val")
        num_images = len(train_source)
        if num_images < 2 * optim.accumulate:
            raise ValueError(f"{num_images} training images are too few; there must be {2 * optim.accumulate}")
        if optim.batch_size % world.size or optim.batch_size < 2 * world.size:
            raise ValueError(f"optim.batch_size: {optim.batch_size} cannot be shared evenly by {world.size} processes")
        self.batches = TrainingBatches(
            num_images,
            min(optim.batch_size, num_images // optim.accumulate),
            task.config.seed,
            order=task.order(),
            rank=world.rank,
            world_size=world.size,
        )
        self.steps_per_epoch = len(self.batches) // optim.accumulate
        self.total_steps = optim.epochs * self.steps_per_epoch
        dataset = TransformedDataset(train_source, task.augmentation(), task.config.seed, task.mixing())
        self.train_loader = build_loader(dataset, self.batches, num_workers=loop.num_workers, keep_workers=True)
        self.val_loader = evaluation_loader(task, self.val_source, optim.batch_size, world, keep_workers=True)
        self.unreadable = UnreadableImages(num_images, loop.max_unreadable_share)

        model = task.build_model().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = TrainingState(
            model,
            None if optim.ema_decay is None else averaged_copy(model, optim.ema_decay),
            build_optimizer(model, optim),
            torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16),
        )
        self.network = model
        self.frozen: list[nn.Sequential] | None = None  # none was chosen yet
        self.identity = {"task": task.name, "vocabulary": dict(task.vocabulary)}
        self.shape = {"num_images": num_images, "steps_per_epoch": self.steps_per_epoch}
        self.saved_at_s = time.monotonic()

    def rest_of_epoch(self) -> Iterator[None]:
        """Do the steps that are left in the current epoch, one each time."""
        epoch, step_in_epoch = divmod(self.state.step, self.steps_per_epoch)
        self.batches.start_at(epoch, step_in_epoch * self.task.config.optim.accumulate)
        frozen = frozen_stages(self.state.model, self.task.config.optim, epoch)
        if frozen != self.frozen:
            self.frozen = frozen
            self._set_learning()
            self.network = self.world.wrap(self.state.model)  # it looks at once at what there is to learn
        arriving = iter(self.train_loader)
        for _ in range(step_in_epoch, self.steps_per_epoch):
            self._step(arriving)
            yield

    def _set_learning(self) -> None:
        keep_statistics = self.task.config.optim.keep_statistics
        set_learning(self.state.model, self.frozen or [], keep_statistics=keep_statistics)

    def _step(self, arriving: Iterator[Batch[T]]) -> None:
        """One optimiser step on the next `accumulate` batches."""
        optim, state = self.task.config.optim, self.state
        self._set_learning()
        # Dropout and sampled regions, too, are a function of seed and step, not of what was drawn before.
        lots = np.random.SeedSequence([self.task.config.seed, state.step, self.world.rank])
        torch.manual_seed(int(lots.generate_state(1)[0]))
        for _ in range(optim.accumulate):
            waiting_since = time.perf_counter()
            batch = next(arriving)
            state.sums["wait_s"] += time.perf_counter() - waiting_since
            self.unreadable.add(batch.unreadable)
            if len(batch.ids) >= 2:  # batch normalisation needs two
                self._backward(batch)
            state.sums["total_s"] += time.perf_counter() - waiting_since

        started = time.perf_counter()
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(optim, state.step, self.steps_per_epoch)
        if optim.clip_norm is not None:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.model.parameters(), optim.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        if state.averaged is not None:
            state.averaged.update_parameters(state.model)
        state.step += 1
        state.sums["total_s"] += time.perf_counter() - started

    def _backward(self, batch: Batch[T]) -> None:
        """Add a batch's gradients and losses to those of the step and of the epoch."""
        with autocast(self.device, self.dtype):
            images = batch.images.to(self.device, non_blocking=True)
            outputs = self.network(images, *self.task.hints(batch.truth))
        losses = self.task.loss(in_fp32(outputs), batch.truth)
        self.state.scaler.scale(losses["total"] / self.task.config.optim.accumulate).backward()
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        if not all(map(math.isfinite, values.values())):
            raise ValueError(
                f"step {self.state.step}: the loss is {values}; a lower optim.lr, a longer optim.warmup_epochs or a "
                "smaller optim.clip_norm usually helps"
            )
        self.state.add_losses(values)

    def close_epoch(self) -> dict[str, Any]:
        """Evaluate if it is time, keep the best weights, and write checkpoint and log; returns the epoch's row."""
        optim, state, score_name = self.task.config.optim, self.state, self.task.score_name
        epoch = state.step // self.steps_per_epoch
        row = state.close_epoch(epoch, self.batches.batch_size * optim.accumulate)
        if epoch % self.task.config.loop.evaluate_every == 0 or epoch == optim.epochs:
            metrics = evaluate(self.task, state.evaluated_model, self.val_loader, world=self.world)
            row |= metrics
            stands = best_score(state.history, score_name) >= metrics[score_name]  # not if there is none: it is NaN
            if not stands and self.world.is_main:
                weights = state.evaluated_model.state_dict()
                checkpoint.save_best(self.run, self.identity | {"model": weights, "epoch": epoch, "metrics": metrics})
        state.history.append(row)
        self.save()
        if self.world.is_main:
            write_csv(self.run / LOG, state.history)
        return row

    def checkpoint_is_due(self) -> bool:
        """Whether the last one is older than the configuration allows."""
        return time.monotonic() - self.saved_at_s > 60 * float(self.task.config.loop.checkpoint_minutes)

    def save(self) -> None:
        """Write `last.pt`."""
        if self.world.is_main:
            checkpoint.save_last(self.run, self.identity | self.shape | self.state.state_dict())
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
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{self.run}: cannot resume: its checkpoint is of another network") from error

    def finish(self) -> dict[str, float]:
        """End the loading, and write what a person looks at, for the best checkpoint; returns its metrics."""
        del self.train_loader, self.val_loader  # matplotlib's import keeps this frame, and so would keep the workers
        return self.world.share(self._present() if self.world.is_main else {})

    def _present(self) -> dict[str, float]:
        best = checkpoint.load_checkpoint(self.run / checkpoint.BEST, self.task.name)
        metrics: dict[str, float] = best["metrics"]
        model = self.state.evaluated_model
        model.load_state_dict(best["model"])
        write_json(self.run / METRICS, metrics_as_json(metrics, len(self.val_source)) | {"epoch": best["epoch"]})
        draw_curves(self.state.history, self.task.score_name, self.run / CURVES)
        draw_examples(self.task, model, self.val_source, self.run / PICTURE)
        return metrics


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that fills when SIGTERM or Ctrl-C arrives; a second Ctrl-C stops at once."""
    arrived: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        if arrived and number == signal.SIGINT:
            raise KeyboardInterrupt
        arrived.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield arrived
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
