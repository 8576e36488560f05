import os
from pathlib import Path

import pytest

from datasets.files import atomic_write, new_folder


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
    names = (".a.123.txt", ".a.124.txt", ".a.backup.txt", ".b.123.txt", ".a.123.csv", "a.123.txt")
    for name in names:
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / ".a.124.txt")  # recent: another process may be writing it
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", *names} - {".a.123.txt"}


def test_new_folder_never_returns_an_existing_one(tmp_path: Path) -> None:
    names = [new_folder(tmp_path / "run").name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]
