"""Batches are a function of seed and epoch, whatever the processes."""

import dataclasses
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from datasets.batch import Batch
from datasets.images.read import UnreadableImageError
from datasets.loader import (
    MAX_REPLACEMENTS,
    Key,
    TrainingBatches,
    TrainingSet,
    build_batch,
    build_loader,
    ordered_batches,
)
from datasets.sources import EvaluationSet
from datasets.types import Example, Image, Unreadable
from tasks.common.evaluation.evaluate import evaluation_loader
from tasks.common.settings import read_config
from tasks.registry import TASKS, config_class, task_class
from tests.conftest import REPOSITORY


class RowImages:
    """Images filled with their row; some cannot be read."""

    def __init__(self, unreadable: Sequence[int] = (3,)) -> None:
        self.warnings: list[str] = []
        self.unreadable = unreadable

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Example[int]:
        if index in self.unreadable:
            raise UnreadableImageError(f"{index}.jpg: truncated image")
        return Example(np.full((4, 6, 3), index, np.uint8), index, str(index))

    def id(self, index: int) -> str:
        return str(index)

    def truth(self, index: int) -> int:
        return index


class Parts(NamedTuple):
    rows: Tensor


class Targets(NamedTuple):
    truth: Tensor
    parts: Parts
    none: None
    names: list[str]


def targets_of(examples: Sequence[Example[int]]) -> Targets:
    truth, rows = ([getattr(example, name) for example in examples] for name in ("truth", "row"))
    names = [example.id for example in examples]
    return Targets(torch.tensor(truth), Parts(torch.tensor(rows)), None, names)


def add_noise(image: Image, truth: int, seed: int) -> tuple[Image, int]:
    return image + np.random.default_rng(seed).integers(0, 99, image.shape, dtype=np.uint8), truth


def brighter(image: Image) -> Image:
    return image + np.uint8(100)


def training_set(unreadable: Sequence[int] = (3,), *, seed: int = 7) -> TrainingSet[int]:
    return TrainingSet(RowImages(unreadable), add_noise, seed)


def epoch_of(num_workers: int, *, epoch: int = 1, first: int = 0) -> list[tuple[list[int], bytes, list[str]]]:
    batches = TrainingBatches(10, 4, seed=7)
    batches.start_at(epoch, first)
    loader = build_loader(training_set(), batches, num_workers=num_workers, collate=targets_of)
    for batch in loader:
        assert batch.targets.truth.tolist() == batch.targets.parts.rows.tolist() == batch.rows
    return [(batch.rows, batch.images.numpy().tobytes(), batch.unreadable) for batch in loader]


def test_number_of_workers_does_not_matter() -> None:
    epochs = range(1, 4)
    alone = [epoch_of(0, epoch=epoch) for epoch in epochs]
    assert alone == [epoch_of(2, epoch=epoch) for epoch in epochs]
    assert any(unreadable for batches in alone for *_, unreadable in batches), "replacements included"


def test_epochs_differ_and_a_later_start_continues_the_same_epoch() -> None:
    assert epoch_of(0) != epoch_of(0, epoch=2)
    for epoch in range(1, 4):
        assert epoch_of(0, epoch=epoch, first=1) == epoch_of(0, epoch=epoch)[1:]


def test_an_epoch_has_each_example_at_most_once() -> None:
    batches = list(TrainingBatches(10, 4, seed=0))
    assert [len(batch) for batch in batches] == [4, 4]
    indices = [key.row for batch in batches for key in batch]
    assert len(set(indices)) == 8


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_batch_in_contiguous_parts(world_size: int) -> None:
    whole = list(TrainingBatches(10, 4, seed=0))
    parts = [list(TrainingBatches(10, 4, seed=0, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for batch, *of_ranks in zip(whole, *parts, strict=True):
        assert [key for part in of_ranks for key in part] == batch, "concatenated by rank"
        sizes = [len(part) for part in of_ranks]
        assert max(sizes) - min(sizes) <= 1


def test_a_data_set_smaller_than_a_batch_is_one_batch() -> None:
    assert [len(batch) for batch in TrainingBatches(3, 16, seed=0)] == [3]


def test_ordered_batches_have_every_example_once() -> None:
    assert ordered_batches(10, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("num_examples", [1, 7, 8, 23])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_evaluate_every_example_once_and_in_order(num_examples: int, world_size: int) -> None:
    parts = [ordered_batches(num_examples, 4, rank=rank, world_size=world_size) for rank in range(world_size)]
    rows = [[row for batch in part for row in batch] for part in parts]
    assert [row for part in rows for row in part] == list(range(num_examples)), "the data set, concatenated by rank"
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    assert all(0 < len(batch) <= 4 for part in parts for batch in part)


def test_evaluation_batches_have_preprocessed_images_and_truth() -> None:
    loader = build_loader(EvaluationSet(RowImages(()), brighter), ordered_batches(10, 4), num_workers=0)
    batches = list(loader)
    assert [batch.rows for batch in batches] == ordered_batches(10, 4)
    for batch in batches:
        assert batch.truth == batch.rows
        assert batch.images[:, 0, 0, 0].tolist() == [row + 100 for row in batch.rows]
        assert batch.targets is None


def test_unreadable_examples_become_messages() -> None:
    dataset = EvaluationSet(RowImages(), brighter)
    batch = build_batch([dataset[row] for row in (2, 3, 4)])
    assert batch.truth == [2, 4]
    assert batch.rows == [2, 4]
    assert len(batch) == 2
    assert batch.unreadable == [Unreadable("3.jpg: truncated image")]
    assert batch.images.shape == (2, 3, 4, 6)
    assert batch.images[0, 0, 0, 0] == 102


def test_a_batch_without_a_readable_example_is_empty() -> None:
    batch = build_batch([EvaluationSet(RowImages(), brighter)[3]])
    assert len(batch) == len(batch.images) == 0
    assert batch.unreadable == [Unreadable("3.jpg: truncated image")]


def test_images_refused_by_preprocessing_are_unreadable() -> None:
    def refuse(_image: Image) -> Image:
        raise UnreadableImageError("no face found")

    assert EvaluationSet(RowImages(), refuse)[2] == Unreadable("2: no face found")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_are_channels_last_in_memory(num_workers: int) -> None:
    dataset = EvaluationSet(RowImages(), brighter)
    batch = next(iter(build_loader(dataset, ordered_batches(3, 3), num_workers=num_workers)))
    assert batch.images.permute(0, 2, 3, 1).is_contiguous()


def loaded(dataset: TrainingSet[int], keys: list[Key]) -> tuple[list[tuple[int, int, bytes]], list[str]]:
    """The readable examples of a batch, and the reasons of the others."""
    items = dataset.__getitems__(keys)
    good = [(item.row, item.seed, item.image.tobytes()) for item in items if isinstance(item, Example)]
    return good, [item.reason for item in items if isinstance(item, Unreadable)]


@pytest.mark.parametrize("unreadable", [(3,), (0, 1, 3, 5, 7, 9), tuple(range(9))])
def test_training_batches_are_full_whatever_is_unreadable(unreadable: Sequence[int]) -> None:
    for epoch in range(4):
        for batch in TrainingBatches(10, 4, seed=7):
            keys = [key._replace(epoch=epoch) for key in batch]
            examples, reasons = loaded(training_set(unreadable), keys)
            assert len(examples) == 4
            assert not {row for row, *_ in examples} & set(unreadable)
            wanted = {f"{key.row}.jpg: truncated image" for key in keys if key.row in unreadable}
            assert wanted <= set(reasons) <= {f"{row}.jpg: truncated image" for row in unreadable}
            for key, (row, *_) in zip(keys, examples, strict=True):
                assert key.row in unreadable or key.row == row, "readable examples keep their position"


def test_a_replacement_is_a_function_of_seed_epoch_and_row() -> None:
    def replacement(epoch: int, *, seed: int = 7, beside: Sequence[int] = (), row: int = 3) -> tuple[int, int, bytes]:
        keys = [Key(epoch, other) for other in beside] + [Key(epoch, row)]
        return loaded(training_set((3, 4), seed=seed), keys)[0][-1]

    for epoch in range(5):
        assert replacement(epoch) == replacement(epoch, beside=(5, 4, 1)), "independent of the rest of the batch"
    assert len({replacement(epoch)[0] for epoch in range(20)}) > 3, "another one in each epoch"
    assert len({replacement(1, seed=seed)[0] for seed in range(20)}) > 3
    assert [replacement(epoch) for epoch in range(9)] != [replacement(epoch, row=4) for epoch in range(9)]


def test_only_unreadable_examples_are_replaced() -> None:
    keys = [Key(2, row) for row in (5, 3, 8)]
    whole, _ = loaded(training_set(()), keys)
    replaced, reasons = loaded(training_set(), keys)
    assert (replaced[0], replaced[2]) == (whole[0], whole[2])
    assert reasons == ["3.jpg: truncated image"]


def test_replacing_ends_if_nothing_can_be_read() -> None:
    examples, reasons = loaded(training_set(range(10)), [Key(0, 1), Key(0, 2)])
    assert not examples
    assert len(reasons) == 2 * (MAX_REPLACEMENTS + 10)  # some at random, then each once
    assert {f"{row}.jpg: truncated image" for row in (1, 2)} <= set(reasons)


def test_training_batches_have_targets_and_no_truth() -> None:
    dataset = training_set()
    batch = build_batch(dataset.__getitems__([Key(0, row) for row in (2, 5)]), targets_of)
    assert batch.truth == []
    assert batch.targets.truth.tolist() == batch.rows == [2, 5]


def some_batch() -> Batch[int]:
    return build_batch(training_set().__getitems__([Key(0, row) for row in (2, 3, 5)]), targets_of)


def tensors_of(batch: Batch[int]) -> list[Tensor]:
    return [batch.images, batch.targets.truth, batch.targets.parts.rows]


def test_torchs_loader_pins_a_batch_with_its_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)  # pinning itself needs a GPU
    batch = some_batch()
    for pinned in (batch.pin_memory(), pin_memory(batch)):
        assert isinstance(pinned, Batch)
        assert pinned is not batch
        for before, after in zip(tensors_of(batch), tensors_of(pinned), strict=True):
            assert before.data_ptr() != after.data_ptr(), "every tensor, nested ones too"
            assert torch.equal(before, after)
        assert (pinned.rows, pinned.unreadable) == (batch.rows, batch.unreadable)
        assert pinned.targets[2:] == batch.targets[2:]
        assert pinned.images.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.gpu
def test_the_loader_yields_pinned_batches() -> None:
    batches = TrainingBatches(10, 4, seed=7)
    loader = build_loader(training_set(), batches, num_workers=1, collate=targets_of, pin_memory=True)
    for batch in loader:
        assert all(tensor.is_pinned() for tensor in tensors_of(batch))
        assert all(tensor.is_cuda for tensor in tensors_of(batch.to(torch.device("cuda"))))


def test_a_batch_moves_with_its_targets() -> None:
    batch = some_batch()
    moved = batch.to(torch.device("meta"))
    assert all(tensor.is_meta for tensor in tensors_of(moved))
    assert not any(tensor.is_meta for tensor in tensors_of(batch))
    assert isinstance(moved.targets, Targets)
    assert moved.targets[2:] == batch.targets[2:]
    assert moved.rows == batch.rows
    plain = build_batch([EvaluationSet(RowImages(), brighter)[2]]).to(torch.device("meta"))
    assert plain.images.is_meta
    assert plain.targets is None
    assert plain.truth == [2]


class RecordingPickler(pickle.Pickler):
    """Records the pickled objects."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        super().__init__(self.file)
        self.written: list[Any] = []

    def persistent_id(self, obj: Any) -> None:
        self.written.append(obj)


def write(value: Any) -> tuple[bytes, set[int]]:
    """A pickled value, and the ids of the objects in it."""
    pickler = RecordingPickler()
    pickler.dump(value)
    return pickler.file.getvalue(), {id(obj) for obj in pickler.written}


@pytest.mark.parametrize("name", TASKS)
def test_loader_processes_are_sent_one_split_and_no_task(name: str, generated_roots: Callable[[str], Path]) -> None:
    """Without fork, the data set is pickled for each process, and COCO's annotations are large."""
    config: Any = read_config(config_class(name), REPOSITORY / "configs" / name / "sample.yaml")
    changes: dict[str, Any] = {"data": dataclasses.replace(config.data, root=str(generated_roots(name)))}
    if name == "geolocation":
        changes["cells"] = dataclasses.replace(config.cells, max_photos=(6, 2), min_photos=1)
    task: Any = task_class(name).from_data(dataclasses.replace(config, **changes))
    train, val = task.source("train"), task.source("val")
    file_names = [{Path(s.id(row)).name.encode() for row in range(len(s))} for s in (train, val)]

    loader = evaluation_loader(task, val, 4)
    sent, written = write((loader.dataset, loader.collate_fn))
    assert id(val) in written
    assert not {id(task), id(train)} & written
    assert len(sent) < len(write(val)[0]) + 1024
    assert not [text for text in file_names[0] - file_names[1] if text in sent]

    sent, written = write((task.training_set(), task.collate()))
    assert id(train) in written
    assert not {id(task), id(val)} & written
    assert not [text for text in file_names[1] - file_names[0] if text in sent]
