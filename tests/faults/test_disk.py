"""Disks that are full, read-only or gone: a line says so, what was saved is intact, and who goes on ends the same."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, OUT
from tests.faults.conftest import Undisturbed
from tests.faults.processes import Fault, Running, run

pytestmark = pytest.mark.faults
ERRORS = ("ENOSPC", "EROFS", "EACCES")
NUM_ERRORS = {"train": 6, "distill": 3, "sweep": 3, "index": 9, "predict": 9, "export": 2, "convert": 9}
DISK_MB = 64


def go_on(name: str, trial: Path, whole: Undisturbed) -> None:
    """Check what is promised, go on without a fault, and compare with the command that nothing disturbed."""
    command = COMMANDS[name]
    command.kept(trial)
    again = run(command.way_on(trial), trial)
    assert again.status == 0, again.err
    assert command.end(trial) == whole.end


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_at_a_change_of_the_file_system(
    name: str, undisturbed: Callable[[str], Undisturbed], trial: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, rng, outcomes = undisturbed(name), random.Random(f"disk {name}"), Counter[str]()
    for number in range(NUM_ERRORS[name]):
        shutil.rmtree(trial)
        fault = Fault(rng.randrange(whole.ended.num_changes), ERRORS[number % len(ERRORS)])
        ended = run(COMMANDS[name].start, trial, fault)
        if ended.status == 0:  # the file could be done without, as a cached one
            assert COMMANDS[name].end(trial) == whole.end, f"{fault}: {ended.err}"
        else:
            assert ended.status == 1, f"{fault}: {ended.err}"
            assert ended.error, f"{fault}: {ended.err}"
            go_on(name, trial, whole)
        outcomes["one line" if ended.status else "done without"] += 1
        with capsys.disabled():
            print(f"\r{name}: {dict(outcomes)}  ", end="", flush=True)


@pytest.fixture
def small_disk(trial: Path) -> Iterator[Path]:
    """The folder of a trial on a disk of its own."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(trial)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield trial
    subprocess.run(["umount", str(trial)], check=True)


@pytest.mark.parametrize("name", ["train", "index", "predict", "convert"])
def test_a_disk_that_others_fill(name: str, undisturbed: Callable[[str], Undisturbed], small_disk: Path) -> None:
    whole, rng = undisturbed(name), random.Random(f"fill {name}")
    for _ in range(3):
        running = Running(COMMANDS[name].start, small_disk)
        running.process.join(rng.random() * whole.ended.seconds)
        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**20))
        ended = running.end()
        filler.unlink()
        assert ended.status in (0, 1), ended.err
        if ended.status:
            assert ended.error
            go_on(name, small_disk, whole)
        for path in small_disk.iterdir():
            shutil.rmtree(path)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_disk_is_a_line_before_any_work(name: str, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = run(COMMANDS[name].start, small_disk)
    assert ended.status == 1
    assert "ead-only" in ended.error
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("name", ["train", "distill", "sweep", "index", "predict"])
def test_a_folder_that_vanishes(name: str, undisturbed: Callable[[str], Undisturbed], trial: Path) -> None:
    """It ends in a line, and goes on when the folder is back; what is written in one piece needs no folder before."""
    whole, rng = undisturbed(name), random.Random(f"vanish {name}")
    for _ in range(3):
        shutil.rmtree(trial)
        ended = run(COMMANDS[name].start, trial, Fault(rng.randrange(2, whole.ended.num_changes // 2), "vanish", OUT))
        moved = trial / f"{OUT}.elsewhere"
        if ended.status == 0:
            assert COMMANDS[name].end(trial) == whole.end
            continue
        assert ended.status == 1, ended.err
        assert ended.error
        if moved.exists():
            assert not (trial / OUT).exists(), "it is not made anew"
            os.replace(moved, trial / OUT)
        go_on(name, trial, whole)
