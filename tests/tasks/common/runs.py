"""A small run of the detection task, in its own process or, which is faster, in this one."""

import contextlib
import csv
import hashlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tasks.common.cli.main import main

EPOCHS, STEPS_PER_EPOCH = 3, 12
TIMEOUT_S = 240


class Done(NamedTuple):
    """The exit status and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def words_of(root: Path, *more: str) -> list[str]:
    """The command line of a small training; its words from the fourth on are the arguments of `tasks.detection`."""
    return [
        *(sys.executable, "-m", "tasks.detection", "train", "--data.root", str(root), "--data.input_size", "64"),
        *("--backbone.name", "mobilenet_0.25", "--optim.epochs", str(EPOCHS), "--optim.batch_size", "2"),
        *("--loop.num_workers", "1", "--loop.evaluate_every", "2", "--loop.checkpoint_minutes", "0", *more),
    ]


def read_log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def end_of_run(run: Path) -> dict[str, Any]:
    """What a training has come to: steps and a digest of each weight of its checkpoints, and its log without times."""
    end: dict[str, Any] = {}
    for name in ("last.pt", "best.pt"):
        content = torch.load(run / name, weights_only=True)
        weights = {key: weight.numpy().tobytes() for key, weight in content["model"].items()}
        digests = {key: hashlib.sha256(weight).hexdigest() for key, weight in weights.items()}
        end[name] = {"step": content.get("step"), **digests}
    times = {"images_per_s", "wait_fraction"}
    return end | {"log": [{key: row[key] for key in row.keys() - times} for row in read_log(run)]}


def run_detection(*words: str) -> Done:
    """`python -m tasks.detection` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("always")  # otherwise a second run in this process would not warn again
        try:
            status = main("detection", words)
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


def train_detection(root: Path, *more: str) -> Done:
    """A small training in this process."""
    return run_detection(*words_of(root, "--loop.num_workers", "0", *more)[3:])
