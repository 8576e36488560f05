"""Optimisers, schedules and EMA weights: the paper's recipe and the usual modern ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from tasks.common.config import OptimConfig

RMSPROP_DECAY = 0.9
# TensorFlow's RMSprop of the paper's release ran with epsilon 1: it is then close to plain momentum for the small
# gradients of a batch mean, which is what makes a learning rate of 0.045 possible.
RMSPROP_EPS = 1.0
EXPONENTIAL_FACTOR, EXPONENTIAL_EPOCHS = 0.94, 2.0


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, with weight decay where the paper has it.

    Source: Howard et al. 2017, section 3.2: "very little or no weight decay (l2 regularization) on the depthwise
    filters"; Szegedy et al. 2016 (arXiv:1512.00567) for RMSprop's settings, to which the paper refers.
    """
    decayed, others = split_by_weight_decay(model)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).is_cuda  # one kernel for all parameters; RMSprop has none
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=fused)
    return torch.optim.RMSprop(groups, lr=config.lr, alpha=RMSPROP_DECAY, eps=RMSPROP_EPS, momentum=config.momentum)


def split_by_weight_decay(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters with weight decay (kernels of linear, standard and pointwise layers), and all others."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
            kernel = isinstance(module, nn.Conv2d | nn.Linear) and name == "weight"
            if parameter.requires_grad:
                (decayed if kernel and not depthwise else others).append(parameter)
    return decayed, others


def learning_rate(config: OptimConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of an optimiser step, a pure function of its number from 0.

    cosine: lr (1 + cos(pi progress)) / 2; exponential: lr 0.94^(epoch / 2); both times min(1, step / warm-up steps).
    """
    warmup_steps = config.warmup_epochs * steps_per_epoch
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    epoch = step / steps_per_epoch
    if config.schedule == "cosine":
        factor = (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    elif config.schedule == "exponential":
        factor = EXPONENTIAL_FACTOR ** (epoch / EXPONENTIAL_EPOCHS)
    else:
        factor = 1.0
    return config.lr * warmup * factor


class EmaModel(nn.Module):
    """A copy of a model whose weights are an exponential moving average (EMA) of the model's.

        ema <- d ema + (1 - d) weights,   d = min(decay, (1 + n) / (10 + n)) after n updates

    so that the first random weights are forgotten soon; the first update copies. Batch normalisation's statistics are
    taken as they are: they are running means already.

    torch's `AveragedModel` waits for the device at each update, since it keeps n there.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Args: model: on its device; decay: in (0, 1)."""
        super().__init__()
        self.module = copy.deepcopy(model)
        self._decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))  # on the CPU, always

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's weights as they are now."""
        n = int(self.n_averaged)
        decay = min(self._decay, (1 + n) / (10 + n)) if n else 0.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - decay)
        buffers = list(model.buffers())
        if buffers:  # torch takes no empty list
            torch._foreach_copy_(list(self.module.buffers()), buffers)
        self.n_averaged += 1
