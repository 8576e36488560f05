"""Several processes that train one model, as `torchrun` starts them. Alone, each call here is free.

torchrun --nproc_per_node 4 -m tasks.detection train --config ...

N processes compute what one would on the whole batch: torch averages their gradients, and a loss divides by counts of
the whole batch (`normalizer`) and compares examples with those of all processes (`all_rows`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from tasks.common.config import OptimConfig

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: of this process, from 0; the first one writes and prints.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with its gradients averaged over the processes in each backward pass."""
        return model if self.size == 1 else nn.parallel.DistributedDataParallel(model)

    def normalizer(self, count: Tensor) -> Tensor:
        """What each process divides its sum by, so that the processes' mean is the whole batch's sum over its count.

        max(1, sum of count over processes) / number of processes

        Args:
            count: scalar, of what this process sums over; never negative.
        """
        if self.size == 1:
            return count.clamp(min=1)
        total = count.detach().clone()
        distributed.all_reduce(total)
        return total.clamp(min=1) / self.size

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, without gradient."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total / self.size

    def all_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, by rank: (N, ...) -> (N * size, ...); gradients reach the process of each row."""
        if self.size == 1:
            return rows
        gathered: Tensor = _AllRows.apply(rows, self)
        return gathered

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is up in any process."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank, in all."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def gather(self, value: T) -> list[T]:
        """The values of all processes in the first one, by rank; in the others none."""
        if self.size == 1:
            return [value]
        gathered: list[T | None] | None = [None] * self.size if self.is_main else None
        distributed.gather_object(value, gathered)
        return gathered or []  # type: ignore[return-value]  # filled by now

    def broadcast(self, value: T) -> T:
        """The first process's value, in all."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's batch statistics, so that all evaluate the model that is saved."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world = world
        parts = [torch.empty_like(rows) for _ in range(world.size)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may give the same one to others
        distributed.all_reduce(gradient)  # each process's loss depends on all rows
        return gradient.chunk(ctx.world.size)[ctx.world.rank], None


SINGLE_PROCESS = World()


def shared_batch_size(num_images: int, optim: OptimConfig, world: World) -> int:
    """Of all processes together: as configured, or less where there are fewer images.

    Raises:
        ValueError: if the processes cannot share it evenly, two images each or more.
    """
    size, least = world.size, 2 * world.size  # batch normalisation needs two
    if optim.batch_size % size or optim.batch_size < least:
        raise ValueError(
            f"optim.batch_size: {optim.batch_size} cannot be shared evenly by {size} processes, 2 or more each"
        )
    if num_images < least * optim.accumulate:
        of = f"{size} processes" if size > 1 else "one step"
        raise ValueError(f"{num_images} training images are too few for {of}; there must be {least * optim.accumulate}")
    return min(optim.batch_size, num_images // optim.accumulate // size * size)


@contextmanager
def join_world(*, on_gpu: bool) -> Iterator[World]:
    """The world that `torchrun` announces in the environment, or this process alone.

    Args:
        on_gpu: each process has a GPU of its own.

    Raises:
        ValueError: if there are not as many GPUs.
        ConnectionError: if another process has ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    if on_gpu:
        wanted, there = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if wanted > there:
            raise ValueError(f"{wanted} processes, but {there} GPUs here: fewer --nproc_per_node, or --loop.device cpu")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(distributed.rendezvous("env://"))  # type: ignore[attr-defined]
    # Processes that `torchrun --max-restarts` has started again would else find the addresses of those before them.
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = distributed.PrefixStore(f"restart {restart}", store)  # type: ignore[attr-defined]
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size)
    try:
        yield World(rank, size)
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, distributed.DistError):
            raise
        first_line = str(error).splitlines()[0]
        raise ConnectionError(
            f"another process of this run has ended, and says why, or is lost ({first_line})"
        ) from error
    finally:
        distributed.destroy_process_group()
