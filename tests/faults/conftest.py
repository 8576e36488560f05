"""Data, trained runs, and how each command ends when nothing disturbs it."""

from __future__ import annotations

import functools
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import SAMPLE_SIZES
from tests.faults.commands import COMMANDS, TEACHERS
from tests.faults.processes import Ended, run


class Undisturbed(NamedTuple):
    """A command without a fault.

    Attributes:
        ended: how.
        end: what it has done.
    """

    ended: Ended
    end: Any


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all trials, with data and trained runs."""
    folder = tmp_path_factory.mktemp("faults")
    for task in ("attributes", "embedding", "detection"):
        root = folder / "data" / task
        root.mkdir(parents=True)
        importlib.import_module(f"datasets.sample.{task}").write_sample(root, SAMPLE_SIZES[task])
    for name, words in TEACHERS.items():
        ended = run(words, folder / f"train-{name}")
        assert ended.status == 0, ended.err
    return folder


@pytest.fixture(scope="session")
def undisturbed(place: Path) -> Callable[[str], Undisturbed]:
    """From the name of a command to what it does; it runs once."""

    @functools.cache
    def run_once(name: str) -> Undisturbed:
        folder = place / f"{name}-undisturbed"
        ended = run(COMMANDS[name].start, folder)
        assert ended.status == 0, ended.err
        return Undisturbed(ended, COMMANDS[name].end(folder))

    return run_once


@pytest.fixture
def trial(place: Path) -> Iterator[Path]:
    """An empty folder for a trial, which is removed after it."""
    folder = place / "trial"
    folder.mkdir()
    yield folder
    for left in place.glob("trial*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
