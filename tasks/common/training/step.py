"""A training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from datasets.batch import Batch
from tasks.common.runtime.device import autocast, to_fp32
from tasks.common.runtime.distributed import World
from tasks.common.task import Objective
from tasks.common.training.state import TrainingState


def train_step(
    objective: Objective,
    network: nn.Module,
    state: TrainingState,
    batches: Sequence[Batch[Any]],
    *,
    lr: float,
    clip_norm: float | None,
    dtype: torch.dtype | None,
    world: World,
) -> None:
    """One optimiser step on the mean loss of some batches.

    The step does not synchronise with the device, except for the overflow check of fp16 and for networks and losses
    that read values back to the CPU.

    Args:
        objective: computes the loss.
        network: the state's model, possibly in DDP or compiled.
        state: updated in place.
        batches: micro-batches, whose gradients are accumulated.
        lr: learning rate.
        clip_norm: maximum norm of the gradient; None for no clipping.
        dtype: of autocast; None for fp32.
        world: the processes that share each batch.
    """
    device = next(state.model.parameters()).device
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, dtype):
            outputs = network(*training_inputs(state.model, batch))
        losses = objective.loss(to_fp32(outputs), batch.targets, world)
        state.scaler.scale(losses["total"] / len(batches)).backward()  # type: ignore[no-untyped-call]
        state.add(losses)

    for group in state.optimizer.param_groups:
        group["lr"] = lr
    if clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
    scale = state.scaler.get_scale()  # 1, without synchronisation, if the scaler is disabled
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None and state.scaler.get_scale() >= scale:  # a lower scale: overflow, the step was skipped
        state.ema.update(state.model)
    state.step += 1


def training_inputs(model: nn.Module, batch: Batch[Any]) -> tuple[Any, ...]:
    """The arguments of a network in training: the images, and the targets if it needs them."""
    return (batch.images, batch.targets) if getattr(model, "needs_targets", False) else (batch.images,)
