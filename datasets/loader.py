"""From a data set of examples to batches, the same ones whatever the number of worker processes.

Every random choice is a function of (seed, epoch, row), never of a process's state. So a run does not depend on
`num_workers`, and one that is resumed in the middle of an epoch sees what the unbroken one would have seen.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.images import UnreadableImageError
from datasets.memory import keep_freed_memory
from datasets.types import Batch, Example, Image

T = TypeVar("T")

# (image, truth, seed) -> (image of the network's input size, truth)
Augment = Callable[[Image, T, int], tuple[Image, T]]
# image -> image of the network's input size
Preprocess = Callable[[Image], Image]
# (examples of one batch after their transforms, seed) -> as many, mixed with each other
Mixing = Callable[[list[Example[T]], int], list[Example[T]]]
# (random numbers of an epoch, size of its batches) -> the rows of its batches, one after the other
Order = Callable[[np.random.Generator, int], NDArray[np.int64]]
# (examples of one training batch) -> their truth as a NamedTuple of tensors
Collate = Callable[[Sequence[Example[T]]], Any]

MAX_REPLACEMENTS = 100  # images that are tried in place of one that cannot be read


class Source(Protocol[T]):
    """A data set of examples, as stored.

    Attributes:
        warnings: one line for each kind of repair that was made while reading, with its count.
    """

    warnings: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Example[T]: ...

    def id(self, index: int, /) -> str:
        """Of an example, without opening its image."""

    def truth(self, index: int, /) -> T:
        """Of an example, without opening its image."""


class Key(NamedTuple):
    """Which example, and in which epoch."""

    epoch: int
    row: int


class Unreadable(NamedTuple):
    """An example whose image could not be read, and why."""

    reason: str


def _read(source: Source[T], row: int, prepare: Callable[[Example[T]], Example[T]]) -> Example[T] | Unreadable:
    """An example of a source, prepared for a network, or why there is none."""
    try:
        example = source[row]
    except UnreadableImageError as error:
        return Unreadable(str(error))
    try:
        return prepare(example)
    except UnreadableImageError as error:  # there is no face to cut out
        return Unreadable(f"{example.id}: {error}")


class EvaluationSet(Dataset[Example[T] | Unreadable], Generic[T]):
    """A source's images as a network takes them, with their truth as stored, by row."""

    def __init__(self, source: Source[T], preprocess: Preprocess) -> None:
        """Args: source: examples; preprocess: makes an image a network's input."""
        self._source = source
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int) -> Example[T] | Unreadable:
        """An example, or why there is none."""
        return _read(self._source, row, lambda e: replace(e, image=self._preprocess(e.image), row=row))


class TrainingSet(Dataset[Example[T] | Unreadable], Generic[T]):
    """A source's examples, augmented by what (seed, epoch, row) draw."""

    def __init__(self, source: Source[T], augment: Augment[T], seed: int, mixing: Mixing[T] | None = None) -> None:
        """Args: source: examples; augment: makes them network inputs; seed: of the run; mixing: of whole batches."""
        self._source = source
        self._augment = augment
        self._seed = seed
        self._mixing = mixing

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, key: Key) -> Example[T] | Unreadable:
        """The example of that epoch, or why there is none."""
        return _read(self._source, key.row, lambda e: self.augmented(replace(e, row=key.row, seed=self._draw(*key))))

    def augmented(self, example: Example[T]) -> Example[T]:
        """The example as the network sees it; a function of it and of its seed."""
        image, truth = self._augment(example.image, example.truth, example.seed)
        return replace(example, image=image, truth=truth)

    def __getitems__(self, keys: list[Key]) -> list[Example[T] | Unreadable]:
        """The examples of a batch; torch's loader asks for them in this way.

        Others, drawn at random, take the place of those that cannot be read, so that every batch of every process is
        full as long as any image can be read: batch normalisation needs two, and all processes take part in each step.
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
            examples = self._mixing(examples, self._draw(*keys[0]) + 1)
        return [*examples, *unreadable]

    def _candidates(self, key: Key) -> Iterator[int]:
        """The row of a key, some others at random, then all."""
        yield key.row
        yield from (self._draw(*key, attempt) % len(self) for attempt in range(1, MAX_REPLACEMENTS))
        yield from range(len(self))

    def _draw(self, *what: int) -> int:
        return int(np.random.SeedSequence([self._seed, *what]).generate_state(1)[0])


class TrainingBatches(Sampler[list[Key]]):
    """Keys of one epoch's batches in an order that (seed, epoch) gives; an incomplete last batch is left out."""

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
        """Batches of one process of a run.

        Args:
            num_examples: of the data set.
            batch_size: at most; shared by all processes.
            seed: of the run.
            order: of the examples in an epoch; None for each once, shuffled.
            rank: of this process, which has the `rank`-th part of each batch.
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
        """The next iteration gives this epoch, from this batch on."""
        self.epoch, self.first_batch = epoch, batch

    def __len__(self) -> int:
        return self.num_examples // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.num_examples) if self._order is None else self._order(rng, self.batch_size)
        for batch in range(self.first_batch, len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            # In one piece, not every `world_size`-th: a person's photos stay together.
            mine = np.array_split(rows, self._world_size)[self._rank]
            yield [Key(self.epoch, int(row)) for row in mine]


def ordered_batches(num_examples: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """Rows of one process's share of all examples, for evaluation: each once, in order, and no process the same.

    A share is one piece, so that the shares of all processes one after the other are in the order of the data set.
    """
    rows = np.array_split(np.arange(num_examples), world_size)[rank].tolist()
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def build_loader(
    dataset: Dataset[Any],
    batches: Sampler[list[Key]] | Sequence[list[int]],
    *,
    num_workers: int,
    collate: Collate[T] | None = None,
    keep_workers: bool = False,
    pin_memory: bool = False,
) -> DataLoader[Batch[T]]:
    """A torch loader over `batches`.

    Args:
        dataset: where examples come from.
        batches: which ones.
        num_workers: processes that load; 0 loads in this one.
        collate: makes the targets of training batches; None: batches have the truth as it is.
        keep_workers: they live as long as the loader, which must be let go of before the program ends; else they end
            with each pass.
        pin_memory: batches lie in page-locked memory, from which they are copied to a GPU while it computes.
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
    """Examples whose images have one size as a batch, with targets if `collate` makes some, else with their truth."""
    good = [example for example in examples if isinstance(example, Example)]
    pixels = np.stack([example.image for example in good]) if good else np.zeros((0, 0, 0, 3), np.uint8)
    return Batch(
        images=torch.from_numpy(pixels).permute(0, 3, 1, 2),  # a view: channels last in memory
        truth=[example.truth for example in good] if collate is None else [],
        targets=collate(good) if collate is not None and good else None,
        rows=[example.row for example in good],
        unreadable=[example.reason for example in examples if isinstance(example, Unreadable)],
    )


def _init_worker(_worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the main process ends the workers
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
