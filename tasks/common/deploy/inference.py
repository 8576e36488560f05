"""The cost of inference: mult-adds, parameters, and latency per image on this machine."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

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


def call_of(network: nn.Module, input_size: int) -> Callable[[], Any]:
    """A call of a network on its device with one image, which ends when the device has computed its outputs."""
    image = torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8, device=device_of(network.eval()))

    def call() -> Any:
        with torch.inference_mode():
            outputs = network(image)
        if image.is_cuda:
            torch.cuda.synchronize()
        return outputs

    return call


def latencies_ms(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """The median time of each call, in milliseconds.

    They are timed in turn, so that a drift of the machine's speed affects all of them.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(NUM_ROUNDS):
        for function, seconds in zip(calls, times, strict=True):
            for call in range(NUM_WARMUPS + NUM_CALLS):
                started = time.perf_counter()
                function()
                if call >= NUM_WARMUPS:
                    seconds.append(time.perf_counter() - started)
    return [1000 * statistics.median(seconds) for seconds in times]
