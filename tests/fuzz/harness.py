"""Runs a reader on damaged copies of its files, in a child process, and checks what comes of each.

The law: something is read, or the error is a ValueError of one line that names the file or its folder. Never another
exception, a crash, more than 10 s, more than 1 GB, or a file outside the folder that is opened, written or removed.

A case is a function of the reader's name and its number, so that one that fails can be repeated:
`python -m tests.fuzz.harness yolo 4711`.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.fuzz.damage import Tree, damaged_tree

MAX_S, MAX_BYTES = 10, 10**9  # of processor time, of memory; for each case
MAX_WALL_S = 120  # on a busy machine; then the child is killed
NUM_FAILURES = 5  # after which a reader is given up
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc, as Linux has it")
_CASE, _FAILURE = struct.Struct("=cqdq"), struct.Struct("=I")  # kind, number, seconds, bytes; length of a text
# What Python and libraries open by themselves.
_OWN_PLACES = tuple(
    {sys.prefix, sys.base_prefix, str(REPOSITORY), "/usr", "/lib", "/proc", "/sys", "/dev/urandom", "/etc/os-release"}
)
_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # disks take 4 ms to remove a folder
_ROOT = Path("a/b/c/data")  # of the files that are read, in a temporary folder: names may lead four folders up
_CHANGES = {
    "os.remove": 1,
    "os.rename": 2,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.link": 2,
    "os.truncate": 1,
}
_LISTS = ("os.scandir", "os.listdir")
_NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pty.spawn")


@dataclass(frozen=True)
class Reader:
    """What is fuzzed.

    Attributes:
        files: the intact files below a folder.
        read: reads them; its result does not matter.
        max_bytes: of memory.
        around: files that lie in each folder above, which are not to be found.
        damage: makes a case of the intact files.
    """

    files: Tree
    read: Callable[[Path], object]
    max_bytes: int = MAX_BYTES
    around: Tree = field(default_factory=dict)
    damage: Callable[[Tree, random.Random], Tree] = damaged_tree


@dataclass
class Campaign:
    """What came of the cases.

    Attributes:
        num_cases: how many ran.
        num_read: those in which something was read.
        slowest: seconds of processor time, and the number of the case.
        largest: bytes that memory grew by, and the number of the case.
        failures: number of the case and what is wrong.
    """

    num_cases: int = 0
    num_read: int = 0
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.num_cases:,} cases, {self.num_read:,} read, {len(self.failures)} failures; slowest "
            f"{self.slowest[0]:.3f} s (case {self.slowest[1]}), largest {self.largest[0] / 1e6:.0f} MB "
            f"(case {self.largest[1]})"
        )


def run_cases(name: str, reader: Reader, first: int, stop: int) -> Campaign:
    """Cases of a reader by number, in child processes: one that crashes or hangs costs its case."""
    campaign = Campaign()
    while first < stop and len(campaign.failures) < NUM_FAILURES:
        with tempfile.TemporaryDirectory(dir=_IN_MEMORY) as folder:
            first = _run_child(name, reader, first, stop, Path(folder), campaign)
    return campaign


def _run_child(name: str, reader: Reader, first: int, stop: int, folder: Path, campaign: Campaign) -> int:
    """Run cases until a child ends; returns the number of the first case that has not run."""
    source, sink = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child does not use
        child = os.fork()
    if child == 0:
        os.close(source)
        status = 1
        try:
            _child(name, reader, range(first, stop), folder, sink)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(sink)
    is_late = False
    with os.fdopen(source, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], MAX_WALL_S)[0]:
                is_late = True
                os.kill(child, signal.SIGKILL)
            head = _read_exactly(pipe, _CASE.size)
            if head is None:
                break
            kind, case, seconds, num_bytes = _CASE.unpack(head)
            campaign.num_cases += 1
            campaign.num_read += kind == b"r"
            campaign.slowest = max(campaign.slowest, (seconds, case))
            campaign.largest = max(campaign.largest, (num_bytes, case))
            if kind == b"f":
                (length,) = _FAILURE.unpack(_read_exactly(pipe, _FAILURE.size) or bytes(_FAILURE.size))
                campaign.failures.append((case, (_read_exactly(pipe, length) or b"").decode("utf-8", "replace")))
            first = case + 1
    status = os.waitpid(child, 0)[1]
    if status != 0:
        ending = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        what = f"more than {MAX_WALL_S} s" if is_late else f"the process ended by {ending}"
        campaign.failures.append((first, what))
        campaign.num_cases += 1
        first += 1
    return first


def _read_exactly(pipe: Any, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = pipe.read(size - len(data))
        if not part:
            return None
        data += part
    return data


def _child(name: str, reader: Reader, cases: range, folder: Path, sink: int) -> None:
    import resource  # which Windows lacks

    torch.set_num_threads(1)  # OpenMP's other threads are not there after a fork, and would be waited for
    faiss.omp_set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * reader.max_bytes, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    root, temporary = folder / _ROOT, folder / "temporary"
    temporary.mkdir()
    for place in root.parents[: len(_ROOT.parts)]:
        _write(place, reader.around)
    tempfile.tempdir = None
    os.environ["TMPDIR"] = str(temporary)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain of each file
    opened = _watch(root, temporary)
    warnings.simplefilter("ignore")
    before_all, num_failures = _outside(root, temporary), 0
    for case in cases:
        tree = reader.damage(reader.files, random.Random(f"{name} {case}"))
        shutil.rmtree(root, ignore_errors=True)
        _write(root, tree)
        before = _memory("VmRSS")
        _reset_peak()
        opened.clear()
        start = time.process_time()
        kind, text = _outcome(reader, root)
        seconds = time.process_time() - start
        forbidden = opened[:1]
        num_bytes = max(0, _memory("VmHWM") - before)
        found = {path.name for path in _outside(root, temporary) - before_all}
        if forbidden:
            kind, text = b"f", f"it opened, changed or started: {forbidden[0]}"
        elif found:
            kind, text = b"f", f"it left {found} beside the folder"
        elif seconds > MAX_S or num_bytes > reader.max_bytes:
            kind, text = b"f", f"{seconds:.1f} s and {num_bytes / 1e6:.0f} MB"
        os.write(sink, _CASE.pack(kind, case, seconds, num_bytes))
        if kind == b"f":
            data = text.encode("utf-8", "replace")[:30_000]
            os.write(sink, _FAILURE.pack(len(data)) + data)
            num_failures += 1
            if num_failures == NUM_FAILURES:
                return


def _outcome(reader: Reader, root: Path) -> tuple[bytes, str]:
    try:
        reader.read(root)
    except ValueError as error:
        text = str(error)
        if isinstance(error, UnicodeError) or str(root) not in text or "\n" in text:
            return b"f", f"{text[:1000]!r}\n{traceback.format_exc()}"
        return b"e", ""
    except BaseException:
        return b"f", traceback.format_exc()
    return b"r", ""


def _write(root: Path, tree: Mapping[str, bytes]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = root / name
        if not path.parent.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _outside(root: Path, temporary: Path) -> set[Path]:
    """The files around the folder, and temporary ones."""
    return {path for place in (temporary, *root.parents[: len(_ROOT.parts)]) for path in place.iterdir()} - {root}


def _watch(*places: Path) -> list[str]:
    """What is opened, listed or started outside the folders from now on: as Python sees it, not within libraries."""
    found: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NEVER:
            found.append(event)
        elif event == "open":
            path, mode, flags = arguments
            is_written = bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR))
            if isinstance(path, str | bytes) and not _is_allowed(os.fsdecode(path), places, is_written=is_written):
                found.append(f"{event} {os.fsdecode(path)} {mode}")
        elif event in _LISTS:
            (path,) = arguments
            if isinstance(path, str | bytes) and not _is_allowed(os.fsdecode(path), places, is_written=False):
                found.append(f"{event} {os.fsdecode(path)}")
        elif event in _CHANGES:
            for path in arguments[: _CHANGES[event]]:
                if isinstance(path, str | bytes) and not _is_allowed(os.fsdecode(path), places, is_written=True):
                    found.append(f"{event} {os.fsdecode(path)}")

    sys.addaudithook(hook)
    return found


def _is_allowed(path: str, places: tuple[Path, ...], *, is_written: bool) -> bool:
    folders = (*map(str, places), *(() if is_written else _OWN_PLACES))
    return f"{os.path.abspath(path)}/".startswith(tuple(f"{folder}/" for folder in folders)) or path == os.devnull


def _memory(key: str) -> int:
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))


def _reset_peak() -> None:
    with Path("/proc/self/clear_refs").open("w", encoding="ascii") as file:
        file.write("5")


if __name__ == "__main__":
    from tests.fuzz.readers import build_reader

    found = run_cases(sys.argv[1], build_reader(sys.argv[1]), int(sys.argv[2]), int(sys.argv[2]) + 1)
    print(found, *(text for _, text in found.failures), sep="\n")
