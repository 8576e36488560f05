"""The one training loop, for every task and for distillation.

A run is a function of its configuration and data. Killed at any moment and resumed, it ends with the same weights:
order and augmentation depend on (seed, epoch, row) alone, the learning rate on the step, and all else is in the
checkpoint.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

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
from tasks.common.optim import averaged_copy, build_optimizer, learning_rate
from tasks.common.progress import Progress
from tasks.common.report import best_score, epoch_line, metrics_as_json, write_log
from tasks.common.state import TrainingState
from tasks.common.task import Task
from tasks.common.unreadable import UnreadableImages

T = TypeVar("T")
LOG, METRICS, CURVES, PICTURE = "log.csv", "metrics.json", "curves.png", "predictions.png"


class InterruptedRunError(Exception):
    """The run was asked to stop (SIGTERM, Ctrl-C) and its checkpoint is written."""


def fit(task: Task[T], run: Path, *, resume: bool = False, world: World = ALONE) -> dict[str, float]:
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
    optim, loop = task.config.optim, task.config.loop
    device = open_device(loop)
    torch.manual_seed(task.config.seed)
    train_source, val_source = task.source("train"), task.source("val")
    if len(train_source) < 2 * optim.accumulate:
        raise ValueError(f"{len(train_source)} training images are too few; there must be {2 * optim.accumulate}")
    if optim.batch_size % world.size or optim.batch_size < 2 * world.size:
        raise ValueError(
            f"optim.batch_size: {optim.batch_size} images cannot be shared evenly by {world.size} processes"
        )

    dataset = TransformedDataset(train_source, task.augmentation(), task.config.seed)
    batches = TrainingBatches(
        len(dataset),
        min(optim.batch_size, len(dataset) // optim.accumulate),
        task.config.seed,
        rank=world.rank,
        world_size=world.size,
    )
    train_loader = build_loader(dataset, batches, num_workers=loop.num_workers)
    val_loader = evaluation_loader(task, val_source, optim.batch_size, world)
    steps_per_epoch = len(batches) // optim.accumulate

    model = task.build_model().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainingState(
        model,
        None if optim.ema_decay is None else averaged_copy(model, optim.ema_decay),
        build_optimizer(model, optim),
        torch.amp.GradScaler(device.type, enabled=loop.precision == "fp16" and device.type == "cuda"),
    )
    identity = {"task": task.name, "vocabulary": dict(task.vocabulary)}
    identity_of_run = identity | {"num_images": len(dataset), "steps_per_epoch": steps_per_epoch}
    if resume:
        _restore(state, run, task.name, identity_of_run)

    def save() -> None:
        if world.is_main:
            checkpoint.save_last(run, identity_of_run | state.state_dict())

    unreadable = UnreadableImages(len(dataset), loop.max_unreadable_share)
    total_steps = optim.epochs * steps_per_epoch
    network = world.wrap(model)
    with (
        _stop_signals() as arrived,
        Progress("training", total_steps, done=state.step, silent=not world.is_main) as progress,
    ):
        last_save = time.monotonic()
        while state.step < total_steps:
            epoch, step_in_epoch = divmod(state.step, steps_per_epoch)
            batches.start_at(epoch, step_in_epoch * optim.accumulate)
            arriving, stopped = iter(train_loader), False
            for _ in range(step_in_epoch, steps_per_epoch):
                lr = learning_rate(optim, state.step, steps_per_epoch)
                _train_step(task, state, network, arriving, device, lr, unreadable)
                stopped = world.any(bool(arrived))
                progress.advance(text=f"loss {state.sums['loss'] / max(1, state.sums['batches']):.3f}")
                due = time.monotonic() - last_save > 60 * loop.checkpoint_minutes
                if (stopped or due) and state.step % steps_per_epoch:  # at its end an epoch is closed first
                    save()
                    last_save = time.monotonic()
                    if stopped:
                        raise InterruptedRunError(f"stopped after step {state.step} of {total_steps}")

            row = state.close_epoch(epoch + 1, batches.batch_size * optim.accumulate)
            if (epoch + 1) % loop.evaluate_every == 0 or epoch + 1 == optim.epochs:
                metrics = evaluate(task, state.evaluated_model, val_loader, world=world)
                row |= metrics
                is_best = (
                    not best_score(state.history, task.score_name) >= metrics[task.score_name]
                )  # so is a first NaN
                if is_best and world.is_main:
                    weights = state.evaluated_model.state_dict()
                    checkpoint.save_best(run, identity | {"model": weights, "epoch": epoch + 1, "metrics": metrics})
            state.history.append(row)
            save()
            last_save = time.monotonic()
            if world.is_main:
                write_log(run / LOG, state.history)
            progress.print(epoch_line(row, optim.epochs, task.score_name))
            if stopped and state.step < total_steps:
                raise InterruptedRunError(f"stopped after epoch {epoch + 1} of {optim.epochs}")

    return world.share(_finish(task, state, val_source, run) if world.is_main else {})


def _train_step(
    task: Task[T],
    state: TrainingState,
    network: nn.Module,
    arriving: Iterator[Batch[T]],
    device: torch.device,
    lr: float,
    unreadable: UnreadableImages,
) -> None:
    """One optimiser step on the next `accumulate` batches."""
    optim = task.config.optim
    dtype = compute_dtype(task.config.loop, device)
    network.train()
    for _ in range(optim.accumulate):
        waiting_since = time.perf_counter()
        batch = next(arriving)
        arrived = time.perf_counter()
        unreadable.add(batch.unreadable)
        if len(batch.ids) >= 2:  # batch normalisation needs two
            with autocast(device, dtype):
                outputs = network(batch.images.to(device, non_blocking=True))
            losses = task.loss(in_fp32(outputs), batch.truth)
            state.scaler.scale(losses["total"] / optim.accumulate).backward()
            values = torch.stack(list(losses.values())).tolist()
            if not all(map(math.isfinite, values)):
                raise ValueError(
                    f"step {state.step}: the loss is {dict(zip(losses, values, strict=True))}; a lower optim.lr, a "
                    "longer optim.warmup_epochs or a smaller optim.clip_norm usually helps"
                )
            for name, value in zip(losses, values, strict=True):
                state.sums["loss" if name == "total" else f"loss_{name}"] += value
            state.sums["batches"] += 1
        state.sums["wait_s"] += arrived - waiting_since
        state.sums["work_s"] += time.perf_counter() - arrived
    started = time.perf_counter()
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    if optim.clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), optim.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.averaged is not None:
        state.averaged.update_parameters(state.model)
    state.step += 1
    state.sums["work_s"] += time.perf_counter() - started


def _restore(state: TrainingState, run: Path, task_name: str, identity: dict[str, Any]) -> None:
    content = checkpoint.load_last(run, task_name)
    for key, value in identity.items():
        if content.get(key) != value:
            raise ValueError(
                f"{run}: cannot resume: its {key} is {content.get(key)!r}, but the data now give {value!r}"
            )
    state.load_state_dict(content)


def _finish(task: Task[T], state: TrainingState, val_source: Any, run: Path) -> dict[str, float]:
    """Write what a person looks at, for the best checkpoint."""
    best = checkpoint.load_checkpoint(run / checkpoint.BEST, task.name)
    model = state.evaluated_model
    model.load_state_dict(best["model"])
    metrics: dict[str, float] = best["metrics"]
    write_json(run / METRICS, metrics_as_json(metrics, len(val_source)) | {"epoch": best["epoch"]})
    draw_curves(state.history, task.score_name, run / CURVES)
    draw_examples(task, model, val_source, run / PICTURE)
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
