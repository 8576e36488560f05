import fcntl
import math
import os
from pathlib import Path

import pytest

from datasets.files import OtherProcessError, atomic_write, new_folder, only_process, remove_leftovers


def test_a_failing_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_write_replaces_the_file_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"


def test_temporary_files_of_killed_processes_are_removed_by_the_next_write(tmp_path: Path) -> None:
    """Process ids of Linux have up to seven digits."""
    killed, recent, running = f".a.{10**8}.txt", f".a.{10**30}.txt", f".a.{os.getppid()}.txt"
    names = (killed, recent, running, ".a.backup.txt", f".b.{10**8}.txt", f".a.{10**8}.csv", f"a.{10**8}.txt")
    for name in names:
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / recent)  # a process of another machine may be writing it
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", *names} - {killed}
    os.utime(tmp_path / recent, (2**32, 2**32))  # by a clock that is ahead
    remove_leftovers(tmp_path / "a.txt", min_age_s=-math.inf)
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", *names} - {killed, recent}


def test_new_folder_never_returns_an_existing_one(tmp_path: Path) -> None:
    names = [new_folder(tmp_path / "run").name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]


def test_who_gets_the_lock_of_a_removed_file_takes_that_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder removes the file when it ends: here, after another has opened and before it has locked it."""
    lock, flock, removed = tmp_path / ".lock", fcntl.flock, []

    def flock_after_a_removal(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(lock)
            lock.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_a_removal)
    monkeypatch.setattr("datasets.files.LOCK_WAIT_S", 0.2)
    with only_process(tmp_path, "--out"):
        assert removed
        assert lock.exists(), "others wait for this one"
        with pytest.raises(OtherProcessError, match="--out: another process"), only_process(tmp_path, "--out"):
            pass
    assert not lock.exists()
    with only_process(tmp_path, "--out"):
        pass
