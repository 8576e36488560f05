"""The cost of inference: mult-adds, parameters, and the latency of one image on this machine."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from backbone.cost import Cost, count_cost
from tasks.common.runtime.device import device_of

ROUNDS, WARMUPS, CALLS = 5, 2, 4  # first calls are slower: another network's data are in the caches


def inference_copy(network: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode, without the parts that only training needs."""
    model = copy.deepcopy(network).cpu().eval()
    drop_training_parts: Callable[[], None] | None = getattr(model, "drop_training_parts", None)
    if drop_training_parts is not None:
        drop_training_parts()
    return model


def inference_cost(network: nn.Module, input_size: int) -> Cost:
    """The cost of a network for one image, without the parts that only training needs."""
    return count_cost(inference_copy(network), torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))


@torch.inference_mode()
def latencies_ms(networks: Sequence[tuple[nn.Module, int]]) -> list[float]:
    """The median latency of each network for one image, in milliseconds.

    The networks take turns, so that a machine whose speed drifts slows all of them alike.

    Args:
        networks: each on its device, with its input size in pixels.
    """
    images = []
    for network, side in networks:
        network.eval()
        images.append(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device_of(network)))
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(ROUNDS):
        for (network, _), image, seconds in zip(networks, images, times, strict=True):
            for call in range(WARMUPS + CALLS):
                started = time.perf_counter()
                network(image)
                if image.is_cuda:
                    torch.cuda.synchronize()
                if call >= WARMUPS:
                    seconds.append(time.perf_counter() - started)
    return [1000 * statistics.median(seconds) for seconds in times]
