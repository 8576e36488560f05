"""Batches are a function of seed and epoch, whoever loads them."""

import numpy as np
import pytest

from datasets.images import UnreadableImageError
from datasets.loader import Key, TrainingBatches, TransformedDataset, build_loader, collate, ordered_batches
from datasets.types import Example, Image


class Numbers:
    """Images that are filled with their number; number 3 cannot be read."""

    warnings: list[str] = []  # noqa: RUF012

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Example[int]:
        if index == 3:
            raise UnreadableImageError("3.jpg: truncated image")
        return Example(np.full((4, 6, 3), index, np.uint8), index, str(index))

    def id(self, index: int) -> str:
        return str(index)

    def truth(self, index: int) -> int:
        return index


def add_noise(image: Image, truth: int, seed: int) -> tuple[Image, int]:
    return image + np.random.default_rng(seed).integers(0, 99, image.shape, dtype=np.uint8), truth


def epoch_of(num_workers: int, *, epoch: int = 1, first: int = 0) -> list[tuple[list[int], bytes]]:
    dataset = TransformedDataset(Numbers(), add_noise, seed=7)
    batches = TrainingBatches(10, 4, seed=7)
    batches.start_at(epoch, first)
    loader = build_loader(dataset, batches, num_workers=num_workers)
    return [(batch.truth, batch.images.numpy().tobytes()) for batch in loader]


def test_number_of_workers_does_not_matter() -> None:
    assert epoch_of(0) == epoch_of(2)


def test_epochs_differ_and_a_later_start_continues_the_same_epoch() -> None:
    assert epoch_of(0) != epoch_of(0, epoch=2)
    assert epoch_of(0, first=1) == epoch_of(0)[1:]


def test_an_epoch_has_each_example_at_most_once() -> None:
    batches = list(TrainingBatches(10, 4, seed=0))
    assert [len(batch) for batch in batches] == [4, 4]
    indices = [key.row for batch in batches for key in batch]
    assert len(set(indices)) == 8


def test_processes_share_each_batch() -> None:
    whole = list(TrainingBatches(10, 4, seed=0))
    parts = [list(TrainingBatches(10, 4, seed=0, rank=rank, world_size=2)) for rank in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert [len(share) for share in shares] == [2, 2]
        assert sorted(shares[0] + shares[1]) == sorted(batch)


def test_a_data_set_smaller_than_a_batch_is_one_batch() -> None:
    assert [len(batch) for batch in TrainingBatches(3, 16, seed=0)] == [3]


def test_ordered_batches_have_every_example_once() -> None:
    keys = [key for batch in ordered_batches(10, 4) for key in batch]
    assert keys == [Key(0, index) for index in range(10)]


def test_unreadable_examples_become_lines() -> None:
    dataset = TransformedDataset(Numbers(), add_noise, seed=0)
    batch = collate([dataset[Key(0, index)] for index in (2, 3, 4)])
    assert batch.truth == [2, 4]
    assert batch.ids == ["2", "4"]
    assert batch.unreadable == ["3.jpg: truncated image"]
    assert batch.images.shape == (2, 3, 4, 6)
    assert batch.images[0, 0, 0, 0] >= 2


def test_a_batch_without_a_readable_example_is_empty() -> None:
    dataset = TransformedDataset(Numbers(), add_noise, seed=0)
    assert len(collate([dataset[Key(0, 3)]]).images) == 0


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_are_channels_last_in_memory(num_workers: int) -> None:
    dataset = TransformedDataset(Numbers(), add_noise, seed=0)
    batch = next(iter(build_loader(dataset, ordered_batches(3, 3), num_workers=num_workers)))
    assert batch.images.permute(0, 2, 3, 1).is_contiguous()
