import errno
import os
import resource
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from backbone.formats import read_tensors
from tasks.common.runs.checkpoint import exists, load_checkpoint, load_last, save_best, save_last
from tasks.registry import TASKS, inference_class


def content(step: int) -> dict[str, object]:
    model = {"weight": torch.full((1000,), float(step))}
    metadata = {"class_names": ["a"], "category_ids": [1]}
    return {"task": "detection", "step": step, "model": model, "metadata": metadata}


def test_the_newest_checkpoint_is_loaded(tmp_path: Path) -> None:
    save_last(tmp_path, content(1))
    save_last(tmp_path, content(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_last(tmp_path, "detection")["step"] == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "missing"])
def test_the_previous_checkpoint_is_loaded_if_the_newest_is_damaged(tmp_path: Path, damage: str) -> None:
    save_last(tmp_path, content(1))
    save_last(tmp_path, content(2))
    path = tmp_path / "last.pt"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":  # one bit of the tensor
        data[data.index(torch.full((4,), 2.0).numpy().tobytes()) + 401] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.warns(UserWarning, match=r"last\.pt.*resuming from .*previous\.pt"):
        assert load_last(tmp_path, "detection")["step"] == 1


@pytest.fixture
def first_saved(tmp_path: Path) -> Path:
    """A run with the checkpoints of steps 0 and 1."""
    run = tmp_path / "run"
    run.mkdir()
    for step in (0, 1):
        save_last(run, content(step))
    return run


def test_an_intact_checkpoint_survives_a_kill_at_any_moment(
    first_saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots: list[Path] = []

    def take_snapshots_around(name: str) -> None:
        original = getattr(os, name)

        def step(*arguments: Any) -> None:
            for call in (lambda: None, lambda: original(*arguments)):
                call()
                snapshots.append(tmp_path / f"{len(snapshots)}-{name}")
                shutil.copytree(first_saved, snapshots[-1])

        monkeypatch.setattr(os, name, step)

    take_snapshots_around("fsync")
    take_snapshots_around("replace")
    save_last(first_saved, content(2))
    assert {snapshot.name.partition("-")[2] for snapshot in snapshots} == {"fsync", "replace"}
    steps = []
    for snapshot in snapshots:
        assert exists(snapshot)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # last.pt may be missing
            steps.append(load_last(snapshot, "detection")["step"])
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (1, 2), "never older than the last checkpoint"


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failing_save_keeps_all_checkpoints(first_saved: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(OSError, match="No space left on device"):
            save_last(first_saved, content(2))
    assert load_last(first_saved, "detection")["step"] == 1
    assert load_checkpoint(first_saved / "previous.pt")["step"] == 0
    assert not list(first_saved.glob(".*"))


def test_a_full_disk_is_an_os_error_and_keeps_all_checkpoints(first_saved: Path) -> None:
    """torch alone raises a RuntimeError about positions in the file."""
    save_best(first_saved, content(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # writes fail half way, as on a full disk
    try:
        for save in (save_last, save_best):
            with pytest.raises(OSError, match="File too large") as caught:
                save(first_saved, content(2))
            assert caught.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_last(first_saved, "detection")["step"] == 1
    assert load_checkpoint(first_saved / "best.pt")["step"] == 1
    assert not list(first_saved.glob(".*"))


def test_other_errors_are_not_reported_as_a_full_disk(tmp_path: Path) -> None:
    class Unsaved:
        def __reduce__(self) -> tuple[object, ...]:
            raise RuntimeError("cannot be saved")

    with pytest.raises(RuntimeError, match="cannot be saved"):
        save_last(tmp_path, content(1) | {"model": Unsaved()})


def test_a_checkpoint_exists_if_a_run_can_be_resumed(first_saved: Path) -> None:
    (first_saved / "last.pt").unlink()
    assert exists(first_saved)
    (first_saved / "previous.pt").unlink()
    save_best(first_saved, content(1))
    assert not exists(first_saved)


def test_missing_checkpoints_are_both_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"last\.pt: no such checkpoint; .*previous\.pt"):
        load_last(tmp_path, "detection")


def test_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    save_last(tmp_path, content(1))
    with pytest.raises(ValueError, match=r"a checkpoint of tasks\.detection, but this is tasks\.embedding"):
        load_last(tmp_path, "embedding")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"task": "detection", "trap": Trap()}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "last.pt", "detection")
    assert not (tmp_path / "sprung").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("text.pt", "list.pt"):
        with pytest.raises(ValueError, match=name):
            load_checkpoint(tmp_path / name, "detection")


@pytest.mark.parametrize("read", [load_checkpoint, read_tensors])
def test_compressed_files_and_too_little_memory_are_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match=r"small\.pt: its contents are compressed, .*; save it again by torch$"):
        read(tmp_path / "small.pt")
    monkeypatch.setattr(torch, "load", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        read(tmp_path / "plain.pt")


@pytest.mark.parametrize("task", TASKS)
def test_metadata_without_what_the_task_needs_are_one_line(tmp_path: Path, task: str) -> None:
    keys = inference_class(task).metadata_keys
    cells = {"cell": ["1"], "lat_deg": [0.0], "lng_deg": [0.0], "num_photos": [1]}
    whole: dict[str, Any] = {key: [] for key in keys} | {"partitionings": [cells], "method": "classification"}
    save_best(tmp_path, content(1) | {"task": task, "metadata": whole})
    load_checkpoint(tmp_path / "best.pt")
    for key in keys:
        save_best(tmp_path, content(1) | {"task": task, "metadata": {k: v for k, v in whole.items() if k != key}})
        with pytest.raises(ValueError, match=rf"best\.pt: not a model of tasks\.{task}: its label map has no {key};"):
            load_checkpoint(tmp_path / "best.pt")


@pytest.mark.parametrize(
    "cells",
    [3, [], [3], [{"cell": ["1"]}]]
    + [[{"cell": ["1"], "lat_deg": [0.0], "lng_deg": value, "num_photos": [1]}] for value in (["x"], [0.0, 1.0], None)]
    + [[{"cell": [token], "lat_deg": [0.0], "lng_deg": [0.0], "num_photos": [1]}] for token in ("x", 3, "f" * 40)],
    ids=str,
)
def test_damaged_cells_are_one_line(tmp_path: Path, cells: object) -> None:
    metadata = {"method": "classification", "partitionings": cells, "guesses": []}
    save_best(tmp_path, content(1) | {"task": "geolocation", "metadata": metadata})
    with pytest.raises(
        ValueError, match=r"^[^\n]*best\.pt: not a model of tasks\.geolocation: its label map is damaged"
    ):
        load_checkpoint(tmp_path / "best.pt")


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "foo"},
        {"task": "common"},
        {"task": ["detection"]},
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"class_names": 3, "category_ids": [1]}},
        {"metadata": {"class_names": [], "category_ids": [], "identities": [3]}},
        {"model": None},
        {"model": {"weight": 3}},
        {"model": {3: torch.zeros(1)}},
        {"model": {"_extra_state": {"features": 3}}},
        {"history": [3]},
    ],
    ids=str,
)
def test_content_of_another_shape_is_one_line(tmp_path: Path, changes: dict[str, object]) -> None:
    save_best(tmp_path, content(1) | changes)
    expected = r"^[^\n]*best\.pt: (not a (checkpoint|model) of|a checkpoint of the task)[^\n]*$"
    with pytest.raises(ValueError, match=expected):
        load_checkpoint(tmp_path / "best.pt")
