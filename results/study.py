"""A study: a folder of runs that the ordinary commands make, in processes of their own; the same command resumes it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.drawing.plot import format_log_axis
from datasets.files import write_json
from tasks.common.cli.main import SAMPLE_CONFIG
from tasks.common.cli.parser import read_arguments
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import METRICS, write_settings
from tasks.common.runtime.repository import ROOT, child_environment
from tasks.common.settings import flatten
from tasks.registry import config_class

CELLS = "cells"  # folder of a study's runs
STUDIES = ("sweep.json", "compress.json", "ablate.json")  # the settings of each kind


def read_shared_settings(task_name: str, words: Sequence[str], own_flags: Mapping[str, str]) -> Any:
    """The settings that all trainings of a study share.

    Args:
        task_name: of the task.
        words: settings on the command line; without data, the sample's recipe is taken.
        own_flags: setting that differs between the trainings -> the study's flag to use instead.

    Raises:
        ValueError: if a setting is wrong, or differs between the trainings.
    """
    sample = ROOT / "configs" / task_name / SAMPLE_CONFIG
    arguments = read_arguments(task_name, config_class(task_name), sample, "train", words)
    for key in sorted(arguments.given & (own_flags.keys() | arguments.options.keys())):
        raise ValueError(f"--{key}: cannot be set for all rows; use {own_flags.get(key, '--out')}")
    config = arguments.config
    if config.optim.layers == "linear_probe":
        raise ValueError("optim.layers: expected all or gradual, since the backbone is trained in all rows")
    return config


def save_shared_settings(file: Path, own: Mapping[str, Any], config: Any) -> None:
    """Save a study's own settings in a file, and those of its trainings there and as the folder's `config.yaml`.

    Raises:
        ValueError: if the folder has a study with others.
    """
    shared = dataclasses.asdict(config)
    check_settings(file, {**own, **json.loads(json.dumps(flatten(shared)))})
    write_settings(shared, file.parent)


def check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Save the settings of a study, which must be those of its earlier runs; keys may be added later.

    Args:
        file: `<kind of study>.json` in the study's folder.
        settings: JSON-serialisable.

    Raises:
        ValueError: if the folder has a study with others.
    """
    folder = file.parent
    folder.mkdir(parents=True, exist_ok=True)
    for other in STUDIES:
        if other != file.name and (folder / other).is_file():
            raise ValueError(f"{folder}: has {other}, where {file.name} is expected; choose another --out")
    saved = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for key, value in settings.items():
        if saved.get(key, value) != value:
            raise ValueError(
                f"{folder}: has {file.name} with {key} {saved[key]!r}, not {value!r}; choose another --out"
            )
    write_json(file, saved | settings)


class Step(NamedTuple):
    """A command of a study, and the folder that it makes.

    Attributes:
        command: words after `python -m`.
        words: settings and flags, without the folder.
        folder: of the run, or of the export.
        flag: for the folder.
        done: the file in the folder that says that it is finished.
        begun: files of which one says that the command can be resumed; none if it starts anew.
    """

    command: Sequence[str]
    words: Sequence[str]
    folder: Path
    flag: str = "--run_dir"
    done: str = METRICS
    begun: Sequence[str] = (checkpoint.LAST, checkpoint.PREVIOUS)

    @property
    def is_done(self) -> bool:
        """Whether it has been finished."""
        return (self.folder / self.done).is_file()

    def make(self, title: str, deadline: float = math.inf) -> bool:
        """Run the command in a process of its own, or resume it, unless it has been finished.

        Args:
            title: printed when it starts.
            deadline: it is not started after this time of `time.monotonic()`.

        Returns:
            Whether it is finished.

        Raises:
            CommandError: (a ValueError) if it fails.
        """
        if self.is_done:
            return True
        if time.monotonic() > deadline:
            return False
        print(title, file=sys.stderr)
        if any((self.folder / name).is_file() for name in self.begun):
            words = ["--resume", str(self.folder)]
        else:
            if self.folder.exists():
                shutil.rmtree(self.folder)  # it was interrupted before it could be resumed
            words = [*self.words, self.flag, str(self.folder)]
        run_command([*self.command, *words], self.folder.name)
        return True


class CommandError(ValueError):
    """A command of the study that failed.

    Attributes:
        reason: its own error.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def run_command(words: Sequence[str], title: str) -> None:
    """Run `python -m` with those words in a process of its own; only what it prints about its progress is shown.

    Raises:
        CommandError: (a ValueError) if it fails, with its own error.
    """
    command = [sys.executable, "-m", *words]
    error = "see above"
    with subprocess.Popen(
        command,
        env=child_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.startswith("error: "):  # which is repeated with the command
                    error = line.removeprefix("error: ").strip()
                else:
                    sys.stderr.write(line)
        except KeyboardInterrupt:  # the process has got it, too: it saves its run, which a second one must not touch
            sys.stderr.writelines(process.stderr)
            process.wait()
            raise
    if process.returncode == 130:
        raise KeyboardInterrupt
    if process.returncode:
        raise CommandError(f"{title}: {error}; the command was: {' '.join(command[1:])}", error)


def deadline_after(budget_minutes: float | None) -> float:
    """The time of `time.monotonic()` after so many minutes; never if None."""
    return math.inf if budget_minutes is None else time.monotonic() + 60 * budget_minutes


def status_of(num_left: int, num_all: int, unit: str) -> int:
    """The exit status of a study, 0, or 3 if something is left, which is also printed."""
    if num_left:
        print(f"{num_left} of {num_all} {unit} are left; the same command resumes", file=sys.stderr)
    return 3 if num_left else 0


def pareto(scores: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points are Pareto optimal: no other one is better in score or a cost and at least as good in all.

    Args:
        scores: (N,).
        costs: (N,), or (N, C) for several.
    """
    costs = costs[:, None] if costs.ndim == 1 else costs
    no_worse = (scores[:, None] <= scores) & (costs[:, None] >= costs).all(-1)
    better = (scores[:, None] < scores) | (costs[:, None] > costs).any(-1)
    dominated = (no_worse & better).any(1)
    return np.asarray(~dominated)


def mark_frontier(
    axes: Any, scores: NDArray[np.float64], costs: NDArray[np.float64], is_best: NDArray[np.bool_], title: str
) -> None:
    """Put rings around the Pareto optimal points of a plot of score against cost, whose axis is logarithmic.

    Args:
        axes: with the points.
        scores: of all points.
        costs: likewise.
        is_best: likewise, from `pareto`.
        title: of the cost.
    """
    axes.plot(costs[is_best], scores[is_best], "ko", fillstyle="none", markersize=12, label="on the Pareto frontier")
    axes.set(xlabel=title, xscale="log")
    format_log_axis(axes.xaxis)
    axes.grid(alpha=0.3)
