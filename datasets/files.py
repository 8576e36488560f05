"""Files and folders: atomic writes, new folders that never overwrite, what is missing."""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from datasets.words import is_url

P = TypeVar("P", str, Path)
CACHE_VARIABLE = "MOBILENET_SUITE_CACHE"
NOT_LOCAL = "expected a place on this machine, from which you can copy what is written"
LEFTOVER_S = 3600  # temporary files older than this are from killed processes
LOCK_WAIT_S = 10  # the loader processes of one that was killed end within 5 s


def cache_dir() -> Path:
    """The cache folder: $MOBILENET_SUITE_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("mobilenet-suite"))


def local_path(text: str) -> Path:
    """A place to write to, for argparse; a URL would be taken for a folder of that name.

    Raises:
        ArgumentTypeError: for a URL.
    """
    if is_url(text):
        raise argparse.ArgumentTypeError(f"{text}: {NOT_LOCAL}")
    return Path(text)


@contextmanager
def atomic_write(path: Path, *, backup: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` if the block ends without an error.

    Readers see the old or the new file, never a part of it, even after a crash. Temporary files of killed processes are
    removed by later writes of the same file, once they are an hour old.

    Args:
        path: the file.
        backup: new name of the old file once the new one is on disk; None to discard it. After a crash the old file may
            be there, and no file at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if backup is not None and path.exists():
            os.replace(path, backup)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which is renamed to it if the block ends without an error.

    Otherwise it is removed; that of a killed process by a later call, once it is an hour old.

    Args:
        path: the new folder; there may be an empty one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """The temporary name of a file or folder, which no other process uses."""
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def remove_leftovers(path: Path, *, min_age_s: float = LEFTOVER_S) -> None:
    """Remove what killed processes have left of `atomic_write` or `whole_folder`.

    What belongs to another process that is running on this machine stays.

    Args:
        path: the file or folder that it would have become; theirs have a process id between stem and suffix.
        min_age_s: how old they are at least.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.*{path.suffix}"):
        process_id = leftover.name[len(path.stem) + 2 : len(leftover.name) - len(path.suffix)]
        with suppress(FileNotFoundError):  # another process has removed it
            is_old = process_id.isdecimal() and time.time() - leftover.stat().st_mtime > min_age_s
            if is_old and not _is_another_process(int(process_id)):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _is_another_process(process_id: int) -> bool:
    if process_id == os.getpid():  # which writes no file now: in containers a killed process had the same id
        return False
    try:
        os.kill(process_id, 0)  # no signal, only its check
    except PermissionError:  # of another user
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


@contextmanager
def only_process(place: Path, flag: str) -> Iterator[None]:
    """Keep other processes from working on a folder or a file during the block; the lock ends with the process.

    Args:
        place: an existing folder, or a file in one.
        flag: which names another place, for the message.

    Raises:
        OtherProcessError: (a ValueError) if another process is working on it.
    """
    from filelock import FileLock, Timeout  # only for commands that write

    lock = FileLock(place / ".lock" if place.is_dir() else place.with_name(f".{place.stem}.lock"))
    try:
        lock.acquire(timeout=LOCK_WAIT_S)
    except Timeout as error:
        raise OtherProcessError(
            f"{flag}: another process is working on {place}; wait until it has ended, or choose another place"
        ) from error
    try:
        yield
    finally:
        # Before the release: filelock notices that a file it has locked is removed, and takes the next one.
        with suppress(OSError):  # the folder is gone
            Path(lock.lock_file).unlink()
        lock.release()


class OtherProcessError(ValueError):
    """Another process is working on a folder or a file."""


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file, with a byte order mark or without.

    Args:
        path: the file.
        expected: what it should be, for messages.

    Raises:
        ValueError: naming the file, if it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected {expected}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}; expected {expected}") from error


def new_folder(path: Path) -> Path:
    """Make the folder `path`, or if it exists `path-2`, `path-3`, ..."""
    count, candidate = 1, path
    while True:
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            count += 1
            candidate = path.with_name(f"{path.name}-{count}")
        else:
            return candidate


def whole_characters(text: str) -> str:
    """Text that can be printed and written: JSON and YAML can have halves of characters (surrogates)."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def missing_files(paths: Sequence[P]) -> list[P]:
    """The paths that do not exist; lists each folder once, which is faster than a `stat` call per file."""
    parts = [os.path.split(path) for path in paths]
    names_in: defaultdict[str, set[str]] = defaultdict(set)
    for folder in {folder for folder, _ in parts}:
        with suppress(OSError):  # it is no folder, or its name is longer than names can be
            names_in[folder] = {entry.name for entry in os.scandir(folder)}
    return [path for path, (folder, name) in zip(paths, parts, strict=True) if name not in names_in[folder]]


def existing_folder(root: str | Path, setting: str = "data.root") -> Path:
    """The folder of a data set.

    Raises:
        ValueError: naming the setting, if there is none.
    """
    path = Path(root)
    if path.is_file():
        raise ValueError(f"{setting}: {root} is a file; expected the folder of a data set")
    if not path.is_dir():
        raise ValueError(f"{setting}: there is no folder {root}")
    return path


def describe_folder(root: Path) -> str:
    """What is in a folder, for messages: its first subfolders, and how many files of each suffix are below it."""
    folders: list[str] = []
    suffixes: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(root):
        if folder == str(root):
            folders = sorted(subfolders)
        suffixes.update(Path(file).suffix.lower() or "no suffix" for file in files)
    found = [f"{name}/" for name in folders[:5]] + ["..."] * (len(folders) > 5)
    found += [f"{count} {suffix}" for suffix, count in suffixes.most_common(5)]
    return f"found {', '.join(found) or 'nothing'}"
