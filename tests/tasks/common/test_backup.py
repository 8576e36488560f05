"""A run's copy in a bucket: from it another machine ends the run as if nothing had happened, and nothing is lost."""

import itertools
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.common.runs.checkpoint import BEST, LAST, PREVIOUS
from tasks.common.runs.folder import METRICS
from tasks.common.settings import CONFIG
from tasks.common.thresholds import THRESHOLDS
from tasks.common.training import backup
from tasks.common.training import fit as fit_module
from tasks.common.training.callback import Callback, Callbacks
from tests.tasks.common.runs import EPOCHS, STEPS_PER_EPOCH, Done, end_of_run, run_detection, train_detection

URL = "memory://bucket/run"
FOLDER = "/bucket/run"


@pytest.fixture(autouse=True)
def bucket() -> Iterator[MemoryFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def train(root: Path, run: Path, *more: str) -> Done:
    return train_detection(root, "--loop.backup", URL, "--run_dir", str(run), *more)


def error_of(done: Done) -> str:
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_another_machine_ends_the_run_from_within_an_epoch_and_from_between_two_files(
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
    changes = [now for old, now in itertools.pairwise(states) if content(old, BEST) != content(now, BEST)]
    later = states[states.index(changes[-1]) :]
    after = next(state for state in later if content(state, LAST) != content(changes[-1], LAST))
    # Between them the best weights are those of a checkpoint that is not there yet.
    for number, state in enumerate((within, changes[-1], after)):
        bucket.rm(FOLDER, recursive=True)
        for path, data in state.items():
            bucket.pipe(path, data)
        run = tmp_path / f"there{number}"
        done = train(generated_root, run)
        assert done.returncode == 0, done.stderr
        assert f"{run}: brought back from {URL}" in done.stderr
        assert end_of_run(run) == end_of_run(unbroken)
        assert (run / THRESHOLDS).read_bytes() == (unbroken / THRESHOLDS).read_bytes()


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
    expected = re.escape(f"error: loop.backup: {URL} has a later checkpoint, of step {STEPS_PER_EPOCH}, than {run}, of")
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
    assert (
        error_of(extended)
        == f"error: loop.backup: {URL} belongs to the old run; give the new one its own --loop.backup, or null"
    )
    assert {path: bucket.cat_file(path) for path in bucket.find(FOLDER)} == before


def test_a_damaged_folder_is_named_beside_the_copy(
    generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem
) -> None:
    run, epochs = tmp_path / "run", ("--optim.epochs", "1")
    assert train(generated_root, run, *epochs).returncode == 0
    for name in (LAST, PREVIOUS):
        (run / name).write_bytes(b"PK damaged")
    expected = (
        f"error: loop.backup: {URL} has a later checkpoint, of step {STEPS_PER_EPOCH}, than {run}, of step 0; move"
    )
    assert error_of(train(generated_root, run, *epochs)).startswith(expected)
    bucket.pipe(f"{FOLDER}/{CONFIG}", b"data: {format: nothing}")
    expected = f"error: loop.backup: {URL} is not of this run ("
    assert error_of(train(generated_root, tmp_path / "new", *epochs)).startswith(expected)
    assert not (tmp_path / "new").exists()


def test_a_run_on_other_data_is_another_run(generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem) -> None:
    assert train(generated_root, tmp_path / "run", "--optim.epochs", "1").returncode == 0
    before, other = bucket.cat_file(f"{FOLDER}/{LAST}"), tmp_path / "data"
    shutil.copytree(generated_root, other)
    for coco in (other / "annotations").glob("instances_*.json"):
        coco.write_text(coco.read_text().replace('"name": "', '"name": "other '))
    assert train_detection(other, "--optim.epochs", "1", "--run_dir", str(tmp_path / "other")).returncode == 0
    done = run_detection("train", "--resume", str(tmp_path / "other"), "--loop.backup", URL)
    assert error_of(done) == f"error: loop.backup: {URL} has a run on other data; choose another folder of the bucket"
    assert bucket.cat_file(f"{FOLDER}/{LAST}") == before


def test_a_bucket_that_is_away_costs_no_training(
    unbroken: Path, generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before the first step; then a warning for each checkpoint; at the end an error that says what to do."""
    is_away, put = [True], MemoryFileSystem.put_file

    def put_at_times(self: MemoryFileSystem, here: str, there: str, **more: Any) -> None:
        if is_away[0]:
            raise ConnectionError("the bucket is away")
        put(self, here, there, **more)

    class GoesAway(Callback):
        def on_checkpoint(self, step: int) -> None:
            is_away[0] = 4 <= step < 8 or step == EPOCHS * STEPS_PER_EPOCH

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_at_times)
    run, reason = tmp_path / "run", f"loop.backup: {URL}: the bucket is away (ConnectionError); expected an address"
    assert error_of(train(generated_root, run)).startswith(f"error: {reason}")
    assert not (run / LAST).exists()
    shutil.rmtree(run)
    is_away[0] = False
    monkeypatch.setattr(fit_module, "watchers", lambda names, callbacks, world: Callbacks([GoesAway(), *callbacks]))
    done = train(generated_root, run)
    ends = re.findall(rf"^warning: {re.escape(reason)}.* the checkpoint of step (\d+) is in", done.stderr, re.MULTILINE)
    assert ends == ["4", "5", "6", "7", str(EPOCHS * STEPS_PER_EPOCH)]
    assert error_of(done).startswith(f"error: {reason}")
    assert error_of(done).endswith(f"; {run} is complete, and the same command copies the rest")
    monkeypatch.undo()
    assert not bucket.exists(f"{FOLDER}/{METRICS}")
    assert train(generated_root, run).returncode == 0
    assert end_of_run(run) == end_of_run(unbroken)
    for name in (LAST, BEST, METRICS, "log.csv", "README.md"):
        assert bucket.cat_file(f"{FOLDER}/{name}") == (run / name).read_bytes()


def test_what_is_no_run_is_kept(generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem) -> None:
    bucket.pipe(f"{FOLDER}/{BEST}", b"somebody's")
    bucket.pipe(f"{FOLDER}/below/{CONFIG}", b"optim: {epochs: 1}")
    expected = (
        f"error: loop.backup: {URL} has files that are not of a run, such as {BEST}; choose another folder of the"
    )
    assert error_of(train(generated_root, tmp_path / "run")).startswith(expected)
    assert not (tmp_path / "run").exists()
    assert bucket.cat_file(f"{FOLDER}/{BEST}") == b"somebody's"


def test_a_run_goes_on_beside_others_and_over_a_damaged_copy(
    generated_root: Path, tmp_path: Path, bucket: MemoryFileSystem
) -> None:
    run, epochs = tmp_path / "run", ("--optim.epochs", "1", "--loop.backup", f"{URL}/")
    bucket.pipe(f"{FOLDER}/other/{CONFIG}", b"optim: {epochs: 7}")
    bucket.pipe(f"{FOLDER}/other/{LAST}", b"not read")
    assert train(generated_root, run, *epochs).returncode == 0
    bucket.pipe(f"{FOLDER}/{LAST}", b"PK damaged")
    done = train(generated_root, run, *epochs)
    assert done.returncode == 0, done.stderr
    assert f"warning: loop.backup: {URL}: the checkpoint is damaged, and is replaced by the next one" in done.stderr
    assert bucket.cat_file(f"{FOLDER}/{LAST}") == (run / LAST).read_bytes()


def test_a_file_that_is_gone_once_it_is_copied_costs_nothing(
    tmp_path: Path, bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").touch()
    monkeypatch.setattr(backup, "_files", lambda run: [run / "gone", run / "there"])
    backup.Backup(tmp_path, URL).copy()
    assert bucket.find(FOLDER) == [f"{FOLDER}/there"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("runs/copy", "loop.backup: runs/copy: expected a folder in a bucket, such as s3://BUCKET/RUN"),
        ("memory://", "expected a folder in a bucket"),
        ("s3://bucket", "expected a folder in a bucket"),
        ("HDFS://host/run", "expected a folder in a bucket, such as s3://BUCKET/RUN, not of HDFS"),
        ("file:///tmp/copy", "loop.backup: file:///tmp/copy: expected a folder in a bucket"),
        ("https://example.org/copy", "expected a folder in a bucket"),
        ("simplecache::memory://b", "expected a folder in a bucket"),
        ("s3://me:s3cret@bucket/run", "loop.backup: s3://bucket/run: expected a URL without a password"),
        ("oss://bucket/run", "loop.backup: oss://bucket/run: a package for it is missing"),
    ],
)
def test_an_address_that_is_no_bucket_is_a_line(
    url: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setitem(sys.modules, "ossfs", None)  # as if it were not installed
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
    run = tmp_path / "runs" / "run"
    assert backup.find_run(URL, None, str(run), lambda run: {}) == run
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [CONFIG]
