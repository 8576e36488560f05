"""What does not learn: stages that are still frozen, and the statistics of batch normalisation.

Gradual unfreezing: the head learns first, then one stage of the backbone after the other, from the last one on.

Source: Howard and Ruder 2018 (arXiv:1801.06146), section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.common.config import OptimConfig


def frozen_stages(model: Any, config: OptimConfig, epoch: int) -> list[nn.Sequential]:
    """The stages of `model.backbone` that do not learn in an epoch, a pure function of its number from 0."""
    if config.layers == "all":
        return []
    stages: list[nn.Sequential] = model.backbone.stages()
    return stages[: max(0, len(stages) - int(epoch / config.unfreeze_epochs))]


def set_trainable(
    model: nn.Module, learnable: Iterable[nn.Parameter], frozen: list[nn.Sequential], *, freeze_bn: bool
) -> None:
    """Put a model in training mode, all but the frozen stages: neither their parameters nor their statistics change.

    Args:
        model: whose stages they are.
        learnable: those of its parameters that may learn at all; what a model froze for itself stays frozen.
        frozen: from `frozen_stages`.
        freeze_bn: those of all batch normalisations stay as they are.
    """
    model.train()
    still = {parameter for stage in frozen for parameter in stage.parameters()}
    for parameter in learnable:
        parameter.requires_grad_(parameter not in still)
    for stage in frozen:
        stage.eval()
    if freeze_bn:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
