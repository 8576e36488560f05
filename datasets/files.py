"""Files that are never half written, folders that are never overwritten, and names that stay inside their root."""

from __future__ import annotations

import glob
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

CACHE_VARIABLE = "MOBILENET_SUITE_CACHE"
LEFTOVER_S = 3600  # nobody writes one file for so long


def cache_dir() -> Path:
    """Where generated data is kept: $MOBILENET_SUITE_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("mobilenet-suite"))


@contextmanager
def atomic_write(path: Path, *, backup: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which becomes `path` only if the block ends well.

    A reader, or a crash at any moment, finds the old file or the new one, never a part of it. What a process that was
    killed has left of the same file goes with the next write, once it is an hour old.

    Args:
        path: the file.
        backup: what the old file becomes once the new one is safe on disk; None to lose it. A crash may find the old
            file there and nothing at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if backup is not None and path.exists():
            os.replace(path, backup)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Those of `atomic_write` alone: between stem and suffix they have the number of a process."""
    for other in path.parent.glob(f".{glob.escape(path.stem)}.*{path.suffix}"):
        number = other.name[len(path.stem) + 2 : len(other.name) - len(path.suffix)]
        with suppress(FileNotFoundError):  # another process was faster
            if number.isdigit() and time.time() - other.stat().st_mtime > LEFTOVER_S:
                other.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def new_folder(path: Path) -> Path:
    """Make `path`, or where that exists `path-2`, `path-3`, ...: what somebody made stays as it is."""
    number, candidate = 1, path
    while True:
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")
        else:
            return candidate


def path_inside(root: Path, name: str) -> Path:
    """`root / name`, if that is inside `root`.

    Raises:
        ValueError: if the name is absolute, climbs out of the root, names the root itself or cannot be a file's.
    """
    if "\0" in name:
        raise ValueError(f"file name {name!r} of a file in {root} has a NUL character")
    parts = Path(os.path.normpath(name)).parts
    if not parts:
        raise ValueError(f"file name {name!r} names no file in {root}")
    if os.path.isabs(name) or parts[0] == os.pardir:
        raise ValueError(f"file name {name!r} points outside its folder {root}")
    return root / name


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """Those that do not exist; one directory listing for each folder, since 118,000 `stat` calls take their time."""
    names_in: defaultdict[Path, set[str]] = defaultdict(set)
    for folder in {path.parent for path in paths}:
        if folder.is_dir():
            names_in[folder] = {entry.name for entry in os.scandir(folder)}
    return [path for path in paths if path.name not in names_in[path.parent]]
