"""A run's copy in a bucket: from each of its states another machine ends the run as if nothing had happened."""

import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.common.runs.checkpoint import BEST, LAST, PREVIOUS
from tasks.common.runs.folder import METRICS
from tasks.common.settings import CONFIG
from tasks.common.training import backup
from tasks.common.training import fit as fit_module
from tests.tasks.common.runs import EPOCHS, STEPS_PER_EPOCH, Done, end_of_run, run_detection, train_detection

URL = "memory://bucket/run"
FOLDER = "/bucket/run"


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    monkeypatch.setattr(fit_module, "LOG_EVERY_STEPS", 4)  # a checkpoint of each step is seen at every fourth
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def train(root: Path, run: Path, *more: str) -> Done:
    return train_detection(root, "--loop.backup", URL, "--run_dir", str(run), *more)


def error_of(done: Done) -> str:
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_from_each_state_of_the_copy_another_machine_ends_the_run(
    unbroken: Path, generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, put = list[dict[str, bytes]](), MemoryFileSystem.put_file

    def put_and_keep(self: MemoryFileSystem, here: str, there: str, **more: Any) -> None:
        put(self, here, there, **more)
        states.append({path: bucket.cat_file(path) for path in bucket.find(FOLDER)})

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_and_keep)
    done = train(generated_root, tmp_path / "here")
    assert done.returncode == 0, done.stderr
    monkeypatch.undo()
    here = {f"{FOLDER}/{path.name}": path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert bucket.find(FOLDER) == sorted(here.keys() - {f"{FOLDER}/{PREVIOUS}"})
    assert all(bucket.cat_file(path) == here[path] for path in bucket.find(FOLDER))

    def content(state: dict[str, bytes], name: str) -> bytes | None:
        return state.get(f"{FOLDER}/{name}")

    within = next(state for state in states if content(state, LAST))  # the first epoch has more steps
    between = [  # the best weights are those of the next checkpoint
        state for before, state in itertools.pairwise(states) if content(state, BEST) != content(before, BEST)
    ]
    assert between
    for number, state in enumerate((within, between[-1])):
        bucket.rm(FOLDER, recursive=True)
        for path, data in state.items():
            bucket.pipe(path, data)
        run = tmp_path / f"there{number}"
        done = train(generated_root, run)
        assert done.returncode == 0, done.stderr
        assert f"{run}: brought back from {URL}" in done.stderr
        assert end_of_run(run) == end_of_run(unbroken)


def test_a_folder_that_is_behind_its_copy_is_refused_and_the_newer_one_goes_on(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, behind, epochs = tmp_path / "run", tmp_path / "behind", ("--optim.epochs", "1")
    save = fit_module.checkpoint.save_last

    def save_and_lose(folder: Path, content: dict[str, Any]) -> None:
        save(folder, content)
        if content["step"] == 5:
            shutil.copytree(folder, behind)

    monkeypatch.setattr(fit_module.checkpoint, "save_last", save_and_lose)
    assert train(generated_root, run, *epochs).returncode == 0
    monkeypatch.undo()
    run.rename(tmp_path / "elsewhere")
    behind.rename(run)
    expected = re.escape(f"error: loop.backup: {URL} has {STEPS_PER_EPOCH} steps of the run, and {run} has 5, so that")
    for done in (train(generated_root, run, *epochs), run_detection("train", "--resume", str(run))):
        assert re.match(expected, error_of(done))
    shutil.rmtree(run)
    assert train(generated_root, run, *epochs).returncode == 0
    assert (run / METRICS).read_text() == (tmp_path / "elsewhere" / METRICS).read_text()


def test_a_copy_of_another_run_is_kept(generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem) -> None:
    assert train(generated_root, tmp_path / "first", "--optim.epochs", "1").returncode == 0
    before = {path: bucket.cat_file(path) for path in bucket.find(FOLDER)}
    second = tmp_path / "second"
    expected = f"error: loop.backup: {URL} has another run, with optim.epochs 1 instead of {EPOCHS}; choose another"
    assert error_of(train(generated_root, second)).startswith(expected)
    assert not second.exists()
    assert train_detection(generated_root, "--run_dir", str(second), "--optim.lr", "0.1").returncode == 0
    resumed = run_detection("train", "--resume", str(second), "--loop.backup", URL)
    assert "has another run, with optim.lr 0.02 instead of 0.1" in error_of(resumed)
    extended = run_detection("train", "--extend", str(tmp_path / "first"), "--run_dir", str(tmp_path / "third"))
    assert error_of(extended) == f"error: loop.backup: {URL} is of the old run; give the new one another, or null"
    assert {path: bucket.cat_file(path) for path in bucket.find(FOLDER)} == before


def test_a_bucket_that_is_away_costs_no_training(
    unbroken: Path, generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, put = [0], MemoryFileSystem.put_file

    def put_at_times(self: MemoryFileSystem, here: str, there: str, **more: Any) -> None:
        calls[0] += 1
        if 5 < calls[0] < 10:
            raise ConnectionError("the bucket is away")
        put(self, here, there, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_at_times)
    run = tmp_path / "run"
    done = train(generated_root, run)
    assert done.returncode == 0
    assert f"warning: loop.backup: {URL}: the bucket is away (ConnectionError); expected an address" in done.stderr
    assert end_of_run(run) == end_of_run(unbroken)
    assert bucket.cat_file(f"{FOLDER}/{LAST}") == (run / LAST).read_bytes()
    calls[0] = 5
    done = train(generated_root, tmp_path / "new", "--loop.backup", f"{URL}2")
    assert error_of(done).startswith(f"error: loop.backup: {URL}2: the bucket is away"), "before the first step"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("runs/copy", "loop.backup: runs/copy: expected a folder in a bucket, one of abfs, "),
        ("file:///tmp/copy", "loop.backup: file:///tmp/copy: expected a folder in a bucket"),
        ("https://example.org/copy", "expected a folder in a bucket"),
        ("simplecache::memory://b", "expected a folder in a bucket"),
        ("s3://me:s3cret@bucket/run", "loop.backup: s3://bucket/run: expected a URL without a password"),
        ("oss://bucket/run", "loop.backup: oss://bucket/run: a package for it is missing"),
    ],
)
def test_an_address_that_is_no_bucket_is_a_line(url: str, message: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    error = error_of(run_detection("train", "--loop.backup", url, "--run_dir", str(run)))
    assert message in error
    assert "s3cret" not in error
    assert not run.exists()


def test_the_same_command_needs_the_name_of_the_folder() -> None:
    assert error_of(run_detection("train", "--loop.backup", URL)) == (
        "error: loop.backup: needs --run_dir, by which the same command finds the run again"
    )


def test_a_copy_is_brought_back_into_its_folder_alone(
    tmp_path: Path, bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.pipe(f"{FOLDER}/{CONFIG}", b"optim: {epochs: 1}")
    names = [CONFIG, "../../out"]
    monkeypatch.setattr(bucket, "find", lambda path: [f"{path}/{name}" for name in names])
    with pytest.raises(ValueError, match=r"^memory://bucket/run: '../../out' is no file of a run$"):
        backup.find_backed_up_run(URL, str(tmp_path / "runs" / "run"), lambda run: {})
    assert not list(tmp_path.rglob("*"))[1:], "but for the folder of all runs"
