"""Frozen stages and frozen batch normalisation.

Gradual unfreezing: first the head is trained, then one more stage of the backbone at a time, from the last one on.

Source: Howard and Ruder 2018 (arXiv:1801.06146), section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.common.config import OptimConfig


def frozen_stages(model: Any, config: OptimConfig, epoch: int) -> list[nn.Sequential]:
    """The stages of `model.backbone` that are frozen in an epoch, counted from 0."""
    if config.layers == "all":
        return []
    stages: list[nn.Sequential] = model.backbone.stages()
    return stages[: max(0, len(stages) - int(epoch / config.unfreeze_epochs))]


def set_trainable(
    model: nn.Module, trainable: Iterable[nn.Parameter], frozen: list[nn.Sequential], *, freeze_bn: bool
) -> None:
    """Put a model in training mode, except for frozen stages: neither their parameters nor their BN statistics change.

    Args:
        model: to train.
        trainable: the parameters that are trained outside frozen stages; others keep their `requires_grad`.
        frozen: stages of the model, from `frozen_stages`.
        freeze_bn: whether to freeze the statistics of all batch normalisation layers.
    """
    model.train()
    frozen_parameters = {parameter for stage in frozen for parameter in stage.parameters()}
    for parameter in trainable:
        parameter.requires_grad_(parameter not in frozen_parameters)
    for stage in frozen:
        stage.eval()
    if freeze_bn:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
