"""Optimisers, learning rate schedules and EMA weights: the paper's recipe and modern ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from tasks.common.config import OptimConfig

RMSPROP_DECAY = 0.9
# The paper's TensorFlow release used RMSprop with epsilon 1, which for the small gradients of a batch mean is close to
# plain momentum and allows a learning rate of 0.045.
RMSPROP_EPS = 1.0
EXPONENTIAL_FACTOR, EXPONENTIAL_EPOCHS = 0.94, 2.0


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The configured optimiser, with weight decay where the paper has it.

    Source: Howard et al. 2017, section 3.2: "very little or no weight decay (l2 regularization) on the depthwise
    filters"; Szegedy et al. 2016 (arXiv:1512.00567) for RMSprop's settings, to which the paper refers.
    """
    decay, no_decay = split_by_weight_decay(model)
    groups = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).is_cuda  # RMSprop has no fused implementation
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=fused)
    return torch.optim.RMSprop(groups, lr=config.lr, alpha=RMSPROP_DECAY, eps=RMSPROP_EPS, momentum=config.momentum)


def kernels(model: nn.Module) -> dict[str, Tensor]:
    """The kernels of linear, standard and pointwise layers by name; those of depthwise ones are left out."""
    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        or (isinstance(module, nn.Conv2d) and not module.groups == module.in_channels > 1)
    }


def split_by_weight_decay(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters with weight decay, see `kernels`, and without."""
    decayed: set[Tensor] = set(kernels(model).values())
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [p for p in trainable if p in decayed], [p for p in trainable if p not in decayed]


def learning_rate(config: OptimConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of an optimiser step, counted from 0.

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

    The first update copies, and the ramp of d discounts the early weights. Buffers are copied: the statistics of batch
    normalisation are moving averages already.

    torch's `AveragedModel` synchronises with the device at each update, since it stores n there.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Args: model: on its device; decay: in (0, 1)."""
        super().__init__()
        self.module = copy.deepcopy(model)
        self._decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))  # stays on the CPU

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the model's current weights."""
        n = int(self.n_averaged)
        decay = min(self._decay, (1 + n) / (10 + n)) if n else 0.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - decay)
        buffers = list(model.buffers())
        if buffers:  # _foreach_copy_ does not accept empty lists
            torch._foreach_copy_(list(self.module.buffers()), buffers)
        self.n_averaged += 1
