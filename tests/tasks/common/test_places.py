"""Places that outputs go to are tested before the work starts; a full disk costs one line, and the run resumes."""

import errno
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.tools.cli import main as datasets
from distill.cli import main as distill
from results.cli import main as results
from tasks.common.cli.main import main as tasks
from tasks.common.runs.folder import check_new_folder, check_writable, explain_full_disk, whole_out_folder
from tasks.embedding.cli import COMMANDS
from tests.tasks.common.runs import end_of_run, run_detection, train_detection

detection = partial(tasks, "detection")
embedding = partial(tasks, "embedding", commands=COMMANDS)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def not_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only disk, also for root."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)


def test_a_place_is_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "--out")
    check_new_folder(tmp_path / "c", "--out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "d").mkdir()
    check_writable(tmp_path / "d", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.usefixtures("not_writable")
def test_a_place_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--out: files cannot be written to .*b \(Read-only file system\); choose"):
        check_writable(tmp_path / "a" / "b", "--out")
    assert not list(tmp_path.iterdir())


def test_a_place_in_a_file_or_without_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out: files cannot be written to .*file/new \(Not a directory\)"):
        check_writable(tmp_path / "file" / "new", "--out")
    with pytest.raises(ValueError, match=r"--out: .*file exists already and is not overwritten"):
        check_new_folder(tmp_path / "file", "--out")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 2_000_000, 2_000_000))
    check_writable(tmp_path, "--out")
    with pytest.raises(ValueError, match=r"--out: 3 MB are needed in .*, but 2\.0 MB are free there"):
        check_writable(tmp_path, "--out", 3_000_000)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (detection, "train --run_dir"),
        (detection, "predict photo.jpg --out"),
        (embedding, "index photos --out"),
        (distill, "--teacher facenet --run_dir"),
        (datasets, "convert --to yolo --out"),
        (datasets, "check --out"),
        (results, "sweep --task detection --out"),
    ],
)
def test_a_url_is_no_place_to_write_to(
    program: Callable[[list[str]], int],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        program([*words.split(), "s3://bucket/x"])
    assert stop.value.code == 2
    assert re.search(r"(out|run_dir): s3://bucket/x: expected a place on this machine", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("not_writable")
@pytest.mark.parametrize(("verb", "flag"), [("train", "--run_dir"), ("evaluate", "--out"), ("export", "--out")])
def test_commands_test_the_place_before_any_work(
    verb: str, flag: str, unbroken: Path, generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has started")

    for name in ("train.inspect_data", "evaluate.load_model", "export.load_model"):
        monkeypatch.setattr(f"tasks.common.verbs.{name}", work)
    monkeypatch.setattr("tasks.detection.task.DetectionTask.from_data", work)
    words = ["--data.root", str(generated_root)] if verb == "train" else ["--run", str(unbroken)]
    failed = run_detection(verb, *words, flag, str(tmp_path / "new"))
    assert failed.returncode == 1
    assert failed.stderr == (
        f"error: {flag}: files cannot be written to {tmp_path / 'new'} (Read-only file system); choose another folder\n"
    )


def test_resuming_and_recording_test_the_place_too(unbroken: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = run_detection("evaluate", "--run", str(unbroken), "--record", str(tmp_path / "file" / "scores.jsonl"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: --record: files cannot be written to ")
    assert not list(unbroken.glob("evaluate-*"))


def test_a_run_is_refused_where_its_checkpoints_have_no_room(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 2_000_000, 2_000_000))
    failed = train_detection(generated_root, "--run_dir", str(tmp_path / "run"))
    assert failed.returncode == 1
    assert "MB are needed in" in failed.stderr
    assert not (tmp_path / "run").exists()


def test_the_room_is_that_of_the_checkpoints(unbroken: Path, generated_root: Path) -> None:
    """Two, a third one while it is written, and the best weights."""
    from tasks.common.training.state import size_of_checkpoints
    from tasks.detection.task import DetectionTask
    from tests.tasks.common.test_patience import config_of

    expected = 3 * (unbroken / "last.pt").stat().st_size + (unbroken / "best.pt").stat().st_size
    assert size_of_checkpoints(DetectionTask.from_data(config_of(generated_root))) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "log.csv", "curves.png", "predictions.png"])
def test_a_disk_that_fills_up_costs_a_line_and_no_weights(
    name: str, unbroken: Path, generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second epoch on a file cannot be written."""
    run = tmp_path / "run"
    write_bytes, fsync = Path.write_bytes, os.fsync

    def is_full(path: str) -> bool:
        return path.rpartition("/")[2].lstrip(".").startswith(Path(name).stem) and (run / "last.pt").exists()

    def write(self: Path, data: Any) -> int:
        if self.suffix == ".png" and is_full(str(self)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(self, data)

    def sync(file: int) -> None:
        if is_full(str(Path(f"/proc/self/fd/{file}").readlink())):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        patch.setattr(os, "fsync", sync)
        failed = train_detection(generated_root, "--run_dir", str(run))
    assert failed.returncode == 1
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: the disk of {run} is full (")
    assert line.endswith(
        "MB are free): No space left on device; free some space, then continue with: python -m tasks.detection train "
        f"--resume {run}"
    )
    assert not list(run.glob(".*"))
    assert torch.load(run / "last.pt", weights_only=True)["step"] > 0
    assert run_detection("train", "--resume", str(run)).returncode == 0
    assert end_of_run(run) == end_of_run(unbroken)


def test_other_errors_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path, lambda: "try again"):
        (tmp_path / "nowhere" / "file").write_text("")
    with (
        pytest.raises(ValueError, match=r"the disk of .* is read-only: .*; make it writable, then go"),
        explain_full_disk(tmp_path, lambda: "go on"),
    ):
        raise OSError(errno.EROFS, "Read-only file system")


def test_a_real_full_device_is_recognised(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with (
        pytest.raises(ValueError, match=r"is full \(.*\): No space left on device"),
        explain_full_disk(tmp_path, lambda: "go"),
    ):
        Path("/dev/full").write_bytes(bytes(10))


def test_an_export_that_fails_leaves_no_folder_in_its_run(tmp_path: Path) -> None:
    task: Any = None  # its name is for exports without a run
    for _ in range(2):
        with pytest.raises(OSError, match="full"), whole_out_folder(task, "export", out=None, run=str(tmp_path)):
            raise OSError("full")
        assert not list(tmp_path.iterdir())
    with whole_out_folder(task, "export", out=None, run=str(tmp_path)) as (folder, unfinished):
        (unfinished / "model.onnx").touch()
    assert folder == tmp_path / "export"
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
