"""The state of training, which a step changes and a checkpoint saves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tasks.common.model.training_wrapper import TrainingWrapper
from tasks.common.runs.pretrained import without_pretrained
from tasks.common.runtime.distributed import World
from tasks.common.task import Task
from tasks.common.training.optim import EmaModel

_NOT_FINITE = "a lower optim.lr, a longer optim.warmup_epochs or a smaller optim.clip_norm usually helps"


@dataclass
class TrainingState:
    """Model, optimiser and counters of a run.

    Attributes:
        model: the network that is trained.
        ema: its EMA weights, if configured.
        optimizer: of the model.
        scaler: scales the loss in fp16; disabled otherwise.
        step: number of optimiser steps done.
        loss_sums: sums of the current epoch's losses, float64 scalars on the device, so that no step synchronises.
        num_batches: number of batches in the sums.
        wait_s: time spent waiting for data in the current epoch.
        total_s: total time of the current epoch.
        history: a row for each finished epoch, as in `log.csv`; row 0 if the start was scored.
        read_sums: the sums that `recent_losses` read last, and the number of batches in them.
    """

    model: nn.Module
    ema: EmaModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    loss_sums: dict[str, Tensor] = field(default_factory=dict)
    num_batches: int = 0
    wait_s: float = 0.0
    total_s: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    read_sums: tuple[dict[str, float], int] = ({}, 0)

    @property
    def num_epochs(self) -> int:
        """The number of finished epochs."""
        return self.history[-1]["epoch"] if self.history else 0

    @property
    def evaluated_model(self) -> nn.Module:
        """The network to evaluate and save: with EMA weights if configured, without auxiliary layers."""
        model = self.ema.module if self.ema is not None else self.model
        return model.network if isinstance(model, TrainingWrapper) else model

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add a batch's losses to the epoch's sums."""
        for name, loss in losses.items():
            value = loss.detach().double()
            self.loss_sums[name] = self.loss_sums[name] + value if name in self.loss_sums else value
        self.num_batches += 1

    def mean_losses(self, world: World) -> dict[str, float]:
        """The mean losses of the current epoch over all processes; synchronises with the device.

        Raises:
            ValueError: if a loss is not finite.
        """
        return {_log_name(name): value / self.num_batches for name, value in self._read_sums(world).items()}

    def recent_losses(self, world: World) -> dict[str, float]:
        """The mean losses over all processes since the last call, the start of the epoch, or a resume; synchronises.

        Raises:
            ValueError: if a loss is not finite.
        """
        (before, num_before), sums = self.read_sums, self._read_sums(world)
        self.read_sums = sums, self.num_batches
        return {
            _log_name(name): (value - before.get(name, 0)) / (self.num_batches - num_before)
            for name, value in sums.items()
        }

    def _read_sums(self, world: World) -> dict[str, float]:
        """The loss sums, averaged over the processes."""
        if not self.loss_sums:
            return {}
        values = world.mean(torch.stack(list(self.loss_sums.values()))).tolist()
        sums: dict[str, float] = dict(zip(self.loss_sums, values, strict=True))
        if not all(map(math.isfinite, values)):
            raise ValueError(f"step {self.step}: the loss is not finite ({sums}); {_NOT_FINITE}")
        return sums

    def close_epoch(self, epoch: int, images_per_step: int, world: World) -> dict[str, Any]:
        """The finished epoch's row of the log; resets the sums."""
        steps = self.step - (self.history[-1]["step"] if self.history else 0)
        row: dict[str, Any] = {"epoch": epoch, "step": self.step, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= self.mean_losses(world)
        row["images_per_s"] = steps * images_per_step / self.total_s
        row["wait_fraction"] = self.wait_s / self.total_s
        self.loss_sums, self.num_batches, self.wait_s, self.total_s = {}, 0, 0.0, 0.0
        self.read_sums = {}, 0
        return row

    def check_finite(self, world: World) -> None:
        """Raise a ValueError on every process if a weight or a batch statistic of one is not finite; synchronises."""
        tensors = [*self.model.parameters(), *self.model.buffers()]  # the latter are each process's own
        is_finite = bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())
        if world.any(not is_finite)[0]:
            raise ValueError(f"step {self.step}: weights or batch statistics are not finite; {_NOT_FINITE}")

    def state_dict(self, world: World) -> dict[str, Any]:
        """The state as tensors and plain Python values; a collective call.

        Raises:
            ValueError: if a loss, a weight or a batch statistic is not finite.
        """
        self.check_finite(world)
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "loss_sums": self._read_sums(world),
            "num_batches": self.num_batches,
            "seconds": [self.wait_s, self.total_s],
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = next(self.model.parameters()).device
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.history, self.num_batches = state["step"], state["history"], state["num_batches"]
        self.loss_sums = {
            name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in state["loss_sums"].items()
        }
        self.wait_s, self.total_s = state["seconds"]
        self.read_sums = dict(state["loss_sums"]), self.num_batches


def _log_name(name: str) -> str:
    return "loss" if name == "total" else f"loss_{name}"


def size_of_checkpoints(task: Task[Any]) -> int:
    """The bytes that the checkpoints of a training take: two, a third one while it is written, and the best weights."""
    optim = task.config.optim
    network = task.with_settings(without_pretrained(task.config)).build_model()
    num_bytes: int = sum(tensor.nbytes for tensor in network.state_dict().values())
    copies = 1 + (optim.ema_decay is not None) + {"sgd": 1, "adamw": 2, "rmsprop": 2}[optim.name]
    return (3 * copies + 1) * num_bytes
