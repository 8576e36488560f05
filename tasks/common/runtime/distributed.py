"""Distributed training with `torchrun`. With a single process, every call here is a no-op.

torchrun --nproc_per_node 4 -m tasks.detection train --config ...

N processes give the gradient of one process on the whole batch: DDP averages gradients, a loss divides by counts over
the whole batch (`normalizer`), and contrastive losses gather the examples of all processes (`all_rows`).
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from tasks.common.config import OptimConfig
from tasks.common.runtime.device import use_own_gpu
from tasks.common.runtime.launch import process_rank
from tasks.common.runtime.repository import code_digest

T = TypeVar("T")
POLL_S = 0.05
SETTLE_S = 0.1


@dataclass(frozen=True)
class World:
    """Rank and world size of this process, and its collectives.

    Attributes:
        rank: of this process, from 0; rank 0 writes files and prints.
        size: number of processes.
        is_restarted: whether `torchrun` has started these processes again after one has failed.
    """

    rank: int = 0
    size: int = 1
    is_restarted: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model in DistributedDataParallel, which averages gradients over the processes."""
        return model if self.size == 1 else nn.parallel.DistributedDataParallel(model)

    def normalizer(self, count: Tensor) -> Tensor:
        """The divisor of a process's summed loss; the mean over processes is then the whole batch's sum / count.

        max(1, sum of count over processes) / number of processes

        Args:
            count: scalar, number of terms in this process's sum; >= 0.
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
        """All processes' rows, by rank: (N, ...) -> (N * size, ...); differentiable."""
        if self.size == 1:
            return rows
        gathered: Tensor = _AllRows.apply(rows, self)
        return gathered

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def all_gather(self, value: T) -> list[T]:
        """All processes' values, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def gather(self, value: T) -> list[T]:
        """All processes' values, by rank, on rank 0; an empty list on the others."""
        if self.size == 1:
            return [value]
        gathered: list[T | None] | None = [None] * self.size if self.is_main else None
        distributed.gather_object(value, gathered)
        return gathered or []  # type: ignore[return-value]  # filled by gather_object

    def check_same(self, values: Mapping[str, str]) -> None:
        """Raise a ValueError on every process unless all have the same values; the keys say what they are."""
        host, first = socket.gethostname(), None
        for rank, (other_host, found) in enumerate(self.all_gather((host, dict(values)))):
            first = first or (other_host, found)
            for key, value in first[1].items():
                if found.get(key) != value:
                    raise ValueError(
                        f"process {rank} on {other_host} has another {key} ({found.get(key)}) than process 0 on "
                        f"{first[0]} ({value}); all processes need the same"
                    )

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every process."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy rank 0's buffers (BN statistics) to all processes, so that all evaluate the model that is saved."""
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
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may reuse this tensor
        distributed.all_reduce(gradient)  # each process's loss depends on all rows
        return gradient.chunk(ctx.world.size)[ctx.world.rank], None


SINGLE_PROCESS = World()


def shared_batch_size(num_images: int, optim: OptimConfig, world: World) -> int:
    """The batch size over all processes: as configured, or smaller for a smaller data set.

    Raises:
        ValueError: if it is not a multiple of the number of processes, or fewer than 2 images per process.
    """
    size, min_size = world.size, 2 * world.size  # batch normalisation needs two images
    if optim.batch_size % size or optim.batch_size < min_size:
        raise ValueError(
            f"optim.batch_size: {optim.batch_size} cannot be shared evenly by {size} processes, 2 or more images each"
        )
    min_images = min_size * optim.accumulate
    if num_images < min_images:
        users = f"{size} processes" if size > 1 else "one step"
        raise ValueError(f"{num_images} training images are too few for {users}; at least {min_images} are needed")
    return min(optim.batch_size, num_images // optim.accumulate // size * size)


@contextmanager
def join_world(*, on_gpu: bool) -> Iterator[World]:
    """Initialise the process group from `torchrun`'s environment; without it, a single process.

    Args:
        on_gpu: whether each process has its own GPU.

    Raises:
        ValueError: if there are fewer GPUs than processes, or another process has another version of the suite.
        ConnectionError: if another process has ended.
    """
    if process_rank()[1] == 1:
        yield World(is_restarted=_has_failed())
        return
    if on_gpu:
        use_own_gpu()
    try:
        world = _start(on_gpu=on_gpu)
    except RuntimeError as error:
        raise ConnectionError(f"not all processes of this run have come: {str(error).splitlines()[0]}") from error
    try:
        world.check_same({"version of the suite": f"{code_digest()}, torch {torch.__version__}"})
        yield world
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, distributed.DistError):
            raise
        first_line = str(error).splitlines()[0]
        raise ConnectionError(
            f"another process of this run has ended or is unreachable; see its error ({first_line})"
        ) from error
    finally:
        distributed.destroy_process_group()
        # DDP keeps gloo's threads alive. One that has yet to let go of the last collective's tensors when Python shuts
        # down aborts the process: of 30 short trainings without this pause 4 ended so, of 55 with it none.
        time.sleep(SETTLE_S)


def _start(*, on_gpu: bool) -> World:
    """The processes, connected."""
    store, rank, size = next(distributed.rendezvous("env://"))  # type: ignore[attr-defined]
    # After a restart (`torchrun --max-restarts`) the store still holds the addresses of the earlier processes.
    store = distributed.PrefixStore(_agree_on_name(store, rank, size), store)  # type: ignore[attr-defined]
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size)
    return World(rank, size, is_restarted=World(rank, size).any(_has_failed())[0])


def _has_failed() -> bool:
    """Whether `torchrun` has started processes of this machine again, which it counts for each machine."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _agree_on_name(store: Any, rank: int, size: int) -> str:
    """A name that the processes of this start have in common, and that none before had.

    The restart count is none: `torchrun` counts on each machine for itself. So rank 0 chooses one. The others know that
    it is not that of an earlier rank 0 by their own names, which it publishes beside it.
    """
    own = uuid.uuid4().hex
    store.set(f"name of {rank}", own)
    while rank == 0:
        names: list[str] = [store.get(f"name of {other}").decode() for other in range(size)]  # waits for the first
        store.set("names", " ".join(names))
        if all(store.check([f"{own} {name}"]) for name in names[1:]):
            return own
        time.sleep(POLL_S)
    while own not in (names := store.get("names").decode().split()):
        time.sleep(POLL_S)
    first: str = names[0]
    store.set(f"{first} {own}", "")
    return first
