"""Commands in processes of their own, forked from one that has imported everything, and what is done to them.

A fault is part of the start: it happens at a change of the file system, counted from 0 as Python sees them, within the
folder of the trial. `run` may also kill the process after some seconds.
"""

from __future__ import annotations

import errno
import importlib
import io
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 300
_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.rmtree")
_FORK_SERVER = multiprocessing.get_context("forkserver")
_FORK_SERVER.set_forkserver_preload(
    [
        "tests.faults.processes",
        *(f"tasks.{task}.task" for task in ("attributes", "embedding", "detection")),
        *(f"tasks.common.verbs.{verb}" for verb in ("train", "predict", "export")),
        *("tasks.embedding.index", "datasets.tools.convert", "datasets.writers.write", "distill.commands"),
        *("results.sweep", "torch._dynamo", "onnxscript", "onnxruntime", "albumentations", "sklearn.metrics"),
        *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "huggingface_hub.repocard"),
    ]
)


@dataclass(frozen=True)
class Fault:
    """What happens at a change of the file system.

    Attributes:
        at: number of the change.
        act: what happens then: `kill`, `vanish` (the folder `place` is renamed), or the name of an errno.
        place: below the folder of the trial, in which changes are counted.
    """

    at: int
    act: str
    place: str = "."


class Ended(NamedTuple):
    """A process that has ended.

    Attributes:
        status: exit status; minus the signal if one has ended it.
        err: what it wrote to stderr.
        num_changes: how often it changed the file system, unless it was killed.
        seconds: from its start.
    """

    status: int
    err: str
    num_changes: int
    seconds: float

    @property
    def error(self) -> str:
        """Its one-line error; empty if there is none."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) < 2, self.err
        assert "Traceback" not in self.err, self.err
        return lines[0].removeprefix("error: ") if lines else ""


@dataclass(frozen=True)
class Words:
    """A command.

    Attributes:
        words: after `python -m`; files are relative to the folder of the trial.
        patches: module:name -> value, for numbers that are too large for a test.
    """

    words: Sequence[str]
    patches: Mapping[str, Any] = field(default_factory=dict)

    def __add__(self, more: Sequence[str]) -> Words:
        return Words([*self.words, *more], self.patches)


class Running:
    """A command that is running in its own process group."""

    def __init__(self, command: Words, folder: Path, fault: Fault | None = None) -> None:
        """Args: command: see above; folder: of the trial, its working directory; fault: see above."""
        folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(".err", f"{folder.name}.", folder.parent)  # two may run in the same folder
        os.close(number)
        self._err = Path(name)
        self._started = time.monotonic()
        self.process: Any = _FORK_SERVER.Process(target=_run, args=(command, folder, self._err, fault))
        self.process.start()
        self.id: int = self.process.pid

    def end(self, *, timeout_s: float = TIMEOUT_S) -> Ended:
        """Wait for the end, also of its loader processes."""
        self.process.join(timeout_s)
        seconds = time.monotonic() - self._started
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"still running after {timeout_s} s: {self._err.read_text()}")
        self._wait_for_others()
        err, _, count = self._err.read_text(encoding="utf-8", errors="replace").partition("\0")
        return Ended(self.process.exitcode, err, int(count or 0), seconds)

    def kill(self, *, alone: bool = False) -> None:
        """Send SIGKILL to all its processes, or to the main one alone, as when memory is short."""
        with suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.id, signal.SIGKILL)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true, or the process has ended."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.process.is_alive() and not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _wait_for_others(self) -> None:
        """Loader processes end by themselves, torch's within 5 s."""
        deadline = time.monotonic() + 30
        with suppress(ProcessLookupError):
            while True:
                os.killpg(self.id, 0)
                assert time.monotonic() < deadline, "a process is left"
                time.sleep(0.02)


def run(command: Words, folder: Path, fault: Fault | None = None, *, kill_after_s: float | None = None) -> Ended:
    """Run a command to its end, or until it is killed."""
    running = Running(command, folder, fault)
    if kill_after_s is not None:
        running.process.join(kill_after_s)
        running.kill()
    return running.end()


def _run(command: Words, folder: Path, err: Path, fault: Fault | None) -> None:
    os.setsid()
    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # loader processes are forked from this one
    os.environ |= {"MOBILENET_SUITE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    for name, value in command.patches.items():
        module, _, attribute = name.partition(":")
        setattr(importlib.import_module(module), attribute, value)
    changes = _count_changes(folder, fault)
    status = _status(command.words)
    sys.stderr.flush()
    os.write(2, b"\0%d" % len(changes))
    sys.exit(status)


def run_here(words: Sequence[str], title: str) -> None:
    """In place of `results.study.run_command`: in this process, which need not import everything again."""
    with redirect_stderr(io.StringIO()) as stderr:
        status = _status(words)
    lines = stderr.getvalue().splitlines(keepends=True)
    sys.stderr.writelines(line for line in lines if not line.startswith("error: "))
    if status:
        raise ValueError(f"{title}: {lines[-1].removeprefix('error: ').strip()}")


def _status(words: Sequence[str]) -> int:
    """Of `python -m` with those words."""
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _count_changes(folder: Path, fault: Fault | None) -> list[str]:
    """The changes of files in a folder from now on, as they happen; at one of them, the fault happens first."""
    main, changes = os.getpid(), list[str]()
    counted = os.path.abspath(folder / (fault.place if fault else "."))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            is_change = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
        else:
            is_change, path = event in _CHANGES, arguments[0] if arguments else None
        if not is_change or not isinstance(path, str | os.PathLike) or os.getpid() != main:
            return
        path = os.path.abspath(path)
        if not f"{path}/".startswith(f"{counted}/"):
            return
        changes.append(path)
        if fault is None or len(changes) != 1 + fault.at:
            return
        if fault.act == "kill":
            os.kill(main, signal.SIGKILL)
        elif fault.act == "vanish":
            os.rename(counted, f"{counted}.elsewhere")  # noqa: PTH104
        else:
            number = getattr(errno, fault.act)
            raise OSError(number, os.strerror(number), path)

    sys.addaudithook(hook)
    return changes
