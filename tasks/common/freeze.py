"""Gradual unfreezing: the head learns first, then one stage of the backbone after the other, from the last one on.

Source: Howard and Ruder 2018 (arXiv:1801.06146), section 3.3.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from tasks.common.config import OptimConfig


def frozen_stages(model: Any, config: OptimConfig, epoch: int) -> list[nn.Sequential]:
    """The stages of `model.backbone` that do not learn in an epoch, a pure function of its number from 0."""
    if config.layers == "all":
        return []
    stages: list[nn.Sequential] = model.backbone.stages()
    return stages[: max(0, len(stages) - int(epoch / config.unfreeze_epochs))]


def freeze(model: nn.Module, frozen: list[nn.Sequential]) -> None:
    """Let all parameters learn but those of the frozen stages, whose batch statistics stay as they are too.

    Call it after `model.train()`, which would wake the statistics again.
    """
    model.requires_grad_(True)
    for stage in frozen:
        stage.requires_grad_(False)
        stage.eval()
