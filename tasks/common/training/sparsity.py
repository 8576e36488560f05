"""Unstructured pruning: the smallest weights of a trained network become zero, the others go back to their start.

A network that is trained again from there, with `optim.keep_zeros`, is a lottery ticket.

Source: Frankle and Carbin 2019 (arXiv:1803.03635), section 1; Zhu and Gupta 2017 (arXiv:1710.01878), section 3.2, for
leaving out the depthwise kernels of a MobileNet.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from tasks.common.runs.pretrained import without_pretrained
from tasks.common.settings import replace_settings
from tasks.common.task import Task
from tasks.common.training.optim import kernels

AnyTask = TypeVar("AnyTask", bound=Task[Any])


def rewind(task: AnyTask, network: nn.Module, sparsity: float) -> tuple[AnyTask, nn.Module]:
    """The network before its training, without the weights that are the smallest after it.

    Each kernel of a linear, standard or pointwise layer loses the same fraction.

    Args:
        task: of the network, with the settings of its training.
        network: trained.
        sparsity: fraction of each kernel's weights that is zero, in [0, 1).

    Returns:
        The task whose training keeps the zeros, and the network, in evaluation mode.

    Raises:
        ValueError: if the weights that the training started from are not there any more.
    """
    start: Any = starting_network(task).to(next(network.parameters()).device)
    trained = kernels(network)
    with torch.no_grad():
        for name, kernel in kernels(start).items():
            sizes = trained[name].abs().flatten()
            smallest = sizes.topk(round(sparsity * len(sizes)), largest=False).indices
            is_zero = torch.zeros_like(sizes, dtype=torch.bool).index_fill(0, smallest, True)
            kernel.masked_fill_(is_zero.view_as(kernel), 0)
    settings = replace_settings(without_pretrained(task.config), {"optim.keep_zeros": True})
    return task.with_settings(settings), start.eval().requires_grad_(False)


def starting_network(task: Task[Any]) -> nn.Module:
    """The network before the first step of a training: a function of the weights it starts from, and the seed."""
    torch.manual_seed(task.config.seed)
    return task.build_model()


def keep_zeros(model: nn.Module) -> None:
    """Let the kernels' weights that are zero have no gradient, so that they stay zero.

    No optimiser of ours moves a weight that has been zero from the start, and whose gradients all were.

    Raises:
        ValueError: if there are none.
    """
    num_zeros = 0
    for kernel in kernels(model).values():
        mask = kernel.detach() != 0
        num_zeros += int((~mask).sum())
        if kernel.requires_grad:
            kernel.register_hook(lambda gradient, mask=mask: gradient * mask)  # type: ignore[no-untyped-call]
    if not num_zeros:
        raise ValueError(
            "optim.keep_zeros: no weight is zero at the start; --pretrained takes a run of prune --sparsity"
        )


def count_zeros(network: nn.Module) -> int:
    """How many weights of the kernels are zero."""
    return sum(int((kernel == 0).sum()) for kernel in kernels(network).values())
