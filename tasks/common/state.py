"""All that a training step changes, as one thing that can be saved and restored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tasks.common.aided import Aided


@dataclass
class TrainingState:
    """All that a step changes.

    Attributes:
        step: optimiser steps done.
        sums: of the losses of the current epoch so far, and `batches` and seconds that they took.
        history: a row for each epoch done; what `log.csv` shows.
    """

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that is kept: with the running mean of the weights where there is one, without what aided it."""
        model = self.averaged.module if self.averaged is not None else self.model
        return model.network if isinstance(model, Aided) else model

    @property
    def mean_loss(self) -> float:
        """Of the current epoch so far."""
        return self.sums["loss"] / max(1, self.sums["batches"])

    def add_losses(self, losses: Mapping[str, float]) -> None:
        """Take a batch's losses into the epoch's sums."""
        for name, value in losses.items():
            self.sums["loss" if name == "total" else f"loss_{name}"] += value
        self.sums["batches"] += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and plain Python values."""
        return {
            "model": self.model.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "sums": dict(self.sums),
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` described."""
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.sums, self.history = state["step"], defaultdict(float, state["sums"]), state["history"]

    def close_epoch(self, epoch: int, images_per_step: int) -> dict[str, Any]:
        """The finished epoch's row of the log; the sums start anew."""
        sums, batches = self.sums, max(1, self.sums["batches"])
        seconds = sums["total_s"]
        row: dict[str, Any] = {"epoch": epoch, "step": self.step, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= {key: value / batches for key, value in sums.items() if key.startswith("loss")}
        steps = self.step - (self.history[-1]["step"] if self.history else 0)
        row["images_per_s"] = steps * images_per_step / seconds
        row["wait_share"] = sums["wait_s"] / seconds  # of the time, waiting for data
        self.sums = defaultdict(float)
        return row
