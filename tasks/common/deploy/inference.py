"""The cost of inference: mult-adds, parameters, and latency per image on this machine."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from backbone.cost import Cost, count_cost
from tasks.common.runtime.device import device_of

NUM_ROUNDS, NUM_WARMUPS, NUM_CALLS = 5, 2, 4  # warm-up calls: the caches hold another network's data


def inference_copy(network: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode, after its `drop_training_parts()` if it has that method."""
    model = copy.deepcopy(network).cpu().eval()
    drop_training_parts: Callable[[], None] | None = getattr(model, "drop_training_parts", None)
    if drop_training_parts is not None:
        drop_training_parts()
    return model


def inference_cost(network: nn.Module, input_size: int) -> Cost:
    """The cost of one image, without the parts of the network that only training needs."""
    return count_cost(inference_copy(network), torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))


@torch.inference_mode()
def latencies_ms(networks: Sequence[tuple[nn.Module, int]]) -> list[float]:
    """The median latency of each network at batch size 1, in milliseconds.

    The networks are timed in turn, so that a drift of the machine's speed affects all of them.

    Args:
        networks: each on its device, with its input size in pixels.
    """
    images = []
    for network, side in networks:
        network.eval()
        images.append(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device_of(network)))
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(NUM_ROUNDS):
        for (network, _), image, seconds in zip(networks, images, times, strict=True):
            for call in range(NUM_WARMUPS + NUM_CALLS):
                started = time.perf_counter()
                network(image)
                if image.is_cuda:
                    torch.cuda.synchronize()
                if call >= NUM_WARMUPS:
                    seconds.append(time.perf_counter() - started)
    return [1000 * statistics.median(seconds) for seconds in times]
