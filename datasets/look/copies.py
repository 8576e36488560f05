"""Find files with the same bytes: those of equal size, by a part of their content, then by all of it."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from datasets.progress import track

A = TypeVar("A")
B = TypeVar("B")

PROBE_BYTES = 4096  # in the middle of a file: headers and borders are often equal, image data hardly ever
MAX_PROBED = 100_000  # files
MAX_HASHED_BYTES = 1 << 30  # in total
NUM_THREADS, FILES_AT_ONCE = 8, 256
COMPARING = "comparing files"


class FileStatus(NamedTuple):
    """What a file system knows about a file.

    Attributes:
        num_bytes: its size.
        identity: the same for links to one file.
    """

    num_bytes: int
    identity: tuple[int, int]


class Copies(NamedTuple):
    """Files with the same bytes.

    Attributes:
        groups: of indices, each of two files or more, in the order of the files.
        num_unchecked: files that have the size of another, but were not compared.
    """

    groups: list[list[int]]
    num_unchecked: int


def file_statuses(paths: Sequence[str]) -> list[FileStatus | OSError]:
    """The status of each file, or why there is none."""
    return list(in_threads(_status, paths, "looking for files"))


def find_copies(paths: Sequence[str], statuses: Sequence[FileStatus | OSError]) -> Copies:
    """The groups of files with the same bytes; empty and missing files are in none.

    Links to one file are copies that take no reading.
    """
    links = defaultdict(list)  # the indices of each file, by its identity
    for index, status in enumerate(statuses):
        if isinstance(status, FileStatus) and status.num_bytes > 0:
            links[status.identity].append(index)
    firsts = [indices[0] for indices in links.values()]
    sizes = {index: statuses[index].num_bytes for index in firsts}  # type: ignore[union-attr]
    groups = _groups(firsts, sizes.__getitem__)
    probed, num_unchecked = _within(groups, len, MAX_PROBED)
    candidates = [index for group in probed for index in group]
    probes = dict(
        zip(candidates, in_threads(_probe, [(paths[i], sizes[i]) for i in candidates], COMPARING), strict=True)
    )
    alike = _groups(candidates, lambda index: (sizes[index], probes[index]))
    hashed, num_unhashed = _within(alike, lambda group: len(group) * sizes[group[0]], MAX_HASHED_BYTES)
    files = [index for group in hashed for index in group]
    hashes = dict(zip(files, in_threads(_hash, [paths[index] for index in files], COMPARING), strict=True))
    same = _groups(files, lambda index: hashes[index])
    first_of = {index: group[0] for group in same for index in group}
    members: defaultdict[int, list[int]] = defaultdict(list)
    for indices in links.values():
        members[first_of.get(indices[0], indices[0])] += indices
    return Copies([sorted(group) for group in members.values() if len(group) > 1], num_unchecked + num_unhashed)


def _groups(indices: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """The groups of two or more with equal keys; None is equal to nothing."""
    groups = defaultdict(list)
    for index in indices:
        value = key(index)
        if value is not None:
            groups[value].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _within(groups: list[list[int]], cost: Callable[[list[int]], int], limit: int) -> tuple[list[list[int]], int]:
    """The first groups, with a total cost up to a limit, and the number of indices in the others."""
    total, num_left_out = 0, 0
    kept = []
    for group in groups:
        if total + cost(group) > limit:
            num_left_out += len(group)
            continue
        total += cost(group)
        kept.append(group)
    return kept, num_left_out


def in_threads(function: Callable[[A], B], values: Sequence[A], title: str) -> Iterator[B]:
    """The function of each value, in order, with a progress bar of that title; for work that waits for disks."""

    def of_part(start: int) -> list[B]:
        return [function(value) for value in values[start : start + FILES_AT_ONCE]]

    with ThreadPoolExecutor(NUM_THREADS) as executor:
        parts = executor.map(of_part, range(0, len(values), FILES_AT_ONCE))
        yield from track(chain.from_iterable(parts), title, len(values))


def _status(path: str) -> FileStatus | OSError:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # a ValueError for a NUL character
        return error if isinstance(error, OSError) else OSError(str(error))
    return FileStatus(status.st_size, (status.st_dev, status.st_ino))


def _probe(file: tuple[str, int]) -> bytes | None:
    path, num_bytes = file
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return hashlib.blake2b(os.pread(descriptor, PROBE_BYTES, max(0, num_bytes - PROBE_BYTES) // 2)).digest()
        finally:
            os.close(descriptor)
    except OSError:
        return None  # it counts as unreadable elsewhere


def _hash(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None
