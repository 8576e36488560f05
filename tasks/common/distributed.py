"""Several processes that train one model, as `torchrun` starts them. Alone, each call here is free.

torchrun --nproc_per_node 4 -m tasks.detection train --config ...
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: of this process, from 0; the first one writes and speaks.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with its gradients averaged over the processes in each backward pass."""
        return model if self.size == 1 else nn.parallel.DistributedDataParallel(model)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes in the first one, by rank; in the others none."""
        if self.size == 1:
            return list(items)
        gathered: list[Sequence[T]] | None = [()] * self.size if self.is_main else None
        distributed.gather_object(items, gathered)
        return list(chain.from_iterable(gathered or ()))

    def share(self, value: T) -> T:
        """The first process's value, in all."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's batch statistics, so that all evaluate the model that is saved."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)


ALONE = World()


@contextmanager
def join_world() -> Iterator[World]:
    """The world that `torchrun` announces in the environment, or this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
