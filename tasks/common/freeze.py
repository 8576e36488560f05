"""What does not learn: stages that are still frozen, and the statistics of batch normalisation.

Gradual unfreezing: the head learns first, then one stage of the backbone after the other, from the last one on.

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


def set_learning(model: nn.Module, frozen: list[nn.Sequential], *, keep_statistics: bool) -> None:
    """Put a model in training mode, all but the frozen stages: neither their parameters nor their statistics change.

    Args:
        model: whose stages they are.
        frozen: from `frozen_stages`.
        keep_statistics: those of all batch normalisations stay as they are.
    """
    model.train()
    model.requires_grad_(True)
    for stage in frozen:
        stage.requires_grad_(False)
        stage.eval()
    if keep_statistics:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
