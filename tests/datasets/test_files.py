import math
import os
from pathlib import Path

import pytest

from datasets.files import atomic_write, new_folder, remove_leftovers


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
