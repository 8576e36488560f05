"""Data loading: from a data set of examples to batches, independent of the number of worker processes.

Every random choice is a function of (seed, epoch, row), never of a process's state. So the batches do not depend on
`num_workers`, and a run that is resumed in the middle of an epoch gets the batches of an uninterrupted one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.batch import Batch
from datasets.memory import keep_freed_memory
from datasets.sources import Source, read_example
from datasets.types import Example, Image, Unreadable

T = TypeVar("T")

# (image, truth, seed) -> (image at the network's input size, truth)
Augment = Callable[[Image, T, int], tuple[Image, T]]
# (augmented examples of a batch, seed) -> the same number of mixed examples
Mixing = Callable[[list[Example[T]], int], list[Example[T]]]
# (the epoch's random generator, batch size) -> the rows of all batches of an epoch, concatenated
Order = Callable[[np.random.Generator, int], NDArray[np.int64]]
# (examples of a training batch) -> targets, a NamedTuple of tensors
Collate = Callable[[Sequence[Example[T]]], Any]

MAX_REPLACEMENTS = 100  # random replacements tried for an unreadable image


class Key(NamedTuple):
    """A row of the data set in an epoch."""

    epoch: int
    row: int


class TrainingSet(Dataset[Example[T] | Unreadable], Generic[T]):
    """A source with augmented examples, indexed by `Key`; random choices depend on (seed, epoch, row)."""

    def __init__(self, source: Source[T], augment: Augment[T], seed: int, mixing: Mixing[T] | None = None) -> None:
        """Args: source: examples; augment: of an example; seed: of the run; mixing: of a batch, such as MixUp."""
        self._source = source
        self._augment = augment
        self._seed = seed
        self._mixing = mixing

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, key: Key) -> Example[T] | Unreadable:
        """The augmented example of an epoch, or `Unreadable`."""
        return read_example(
            self._source, key.row, lambda e: self.augmented(replace(e, row=key.row, seed=self._seed_of(*key)))
        )

    def augmented(self, example: Example[T]) -> Example[T]:
        """The augmented example; depends only on the example and its seed."""
        image, truth = self._augment(example.image, example.truth, example.seed)
        return replace(example, image=image, truth=truth)

    def __getitems__(self, keys: list[Key]) -> list[Example[T] | Unreadable]:
        """The examples of a batch; called by torch's DataLoader.

        Unreadable examples are replaced by others at random, so that every batch of every process is full: batch
        normalisation needs two images, and all processes take part in each step.
        """
        examples: list[Example[T]] = []
        unreadable: list[Unreadable] = []
        for key in keys:
            for row in self._candidates(key):
                item = self[Key(key.epoch, row)]
                if isinstance(item, Example):
                    examples.append(item)
                    break
                unreadable.append(item)
        if self._mixing is not None:
            examples = self._mixing(examples, self._seed_of(*keys[0]) + 1)
        return [*examples, *unreadable]

    def _candidates(self, key: Key) -> Iterator[int]:
        """The row of a key, then random rows, then all rows."""
        yield key.row
        yield from (self._seed_of(*key, attempt) % len(self) for attempt in range(1, MAX_REPLACEMENTS))
        yield from range(len(self))

    def _seed_of(self, *key: int) -> int:
        return int(np.random.SeedSequence([self._seed, *key]).generate_state(1)[0])


class TrainingBatches(Sampler[list[Key]]):
    """A batch sampler for an epoch, shuffled by (seed, epoch); an incomplete last batch is dropped."""

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        seed: int,
        *,
        order: Order | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """The batches of one process.

        Args:
            num_examples: size of the data set.
            batch_size: over all processes; limited by the size of the data set.
            seed: of the run.
            order: sampling order; None to shuffle the examples once per epoch.
            rank: of this process, which gets the `rank`-th part of each batch.
            world_size: number of processes.
        """
        self.num_examples = num_examples
        self.batch_size = min(batch_size, num_examples)
        self.seed = seed
        self._order = order
        self._rank, self._world_size = rank, world_size
        self.epoch = 0
        self.first_batch = 0

    def start_at(self, epoch: int, batch: int) -> None:
        """Set the epoch and the first batch of the next iteration."""
        self.epoch, self.first_batch = epoch, batch

    def __len__(self) -> int:
        return self.num_examples // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.num_examples) if self._order is None else self._order(rng, self.batch_size)
        for batch in range(self.first_batch, len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            # Contiguous parts keep neighbouring examples in one process, such as the photos of an identity.
            own_rows = np.array_split(rows, self._world_size)[self._rank]
            yield [Key(self.epoch, int(row)) for row in own_rows]


def ordered_batches(num_examples: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """The rows of a process's evaluation batches: every example once over all processes.

    A process gets a contiguous part, so that the parts concatenated by rank are in the order of the data set.
    """
    rows = np.array_split(np.arange(num_examples), world_size)[rank].tolist()
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def build_loader(
    dataset: Any,
    batches: Sampler[list[Key]] | Sequence[list[int]],
    *,
    num_workers: int,
    collate: Collate[T] | None = None,
    keep_workers: bool = False,
    pin_memory: bool = False,
) -> DataLoader[Batch[T]]:
    """A torch loader over `batches`.

    Args:
        dataset: an `EvaluationSet` or a `TrainingSet`.
        batches: the batch sampler.
        num_workers: number of loader processes; 0 loads in this process.
        collate: makes the targets of training batches; None keeps the truth of evaluation batches.
        keep_workers: keep the worker processes between epochs; delete the loader before the program ends.
        pin_memory: put batches in page-locked memory, for asynchronous copies to a GPU.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=partial(build_batch, collate=collate),
        worker_init_fn=_init_worker,
        persistent_workers=keep_workers and num_workers > 0,
        pin_memory=pin_memory,
    )


def build_batch(examples: Sequence[Example[T] | Unreadable], collate: Collate[T] | None = None) -> Batch[T]:
    """A batch of examples with equal image sizes; with targets if `collate` is given, else with the truth."""
    readable = [example for example in examples if isinstance(example, Example)]
    pixels = np.stack([example.image for example in readable]) if readable else np.zeros((0, 0, 0, 3), np.uint8)
    return Batch(
        images=torch.from_numpy(pixels).permute(0, 3, 1, 2),  # a view: channels last in memory
        truth=[example.truth for example in readable] if collate is None else [],
        targets=collate(readable) if collate is not None and readable else None,
        rows=[example.row for example in readable],
        unreadable=[example for example in examples if isinstance(example, Unreadable)],
    )


def _init_worker(_worker: int) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the main process stops the workers
        signal.signal(signum, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
