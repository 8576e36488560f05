"""A small run of the detection task in a process of its own, as a user starts it."""

import csv
import subprocess
import sys
from pathlib import Path

EPOCHS, STEPS_PER_EPOCH = 3, 12
TIMEOUT_S = 240


def words_of(root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tasks.detection", "train", "--data.root", str(root), "--data.input_size", "64"),
        *("--backbone.name", "mobilenet_0.25", "--optim.epochs", str(EPOCHS), "--optim.batch_size", "2"),
        *("--loop.num_workers", "1", "--loop.evaluate_every", "2", "--loop.checkpoint_minutes", "0", *more),
    ]


def read_log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def run_detection(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tasks.detection", *words],
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_S,
    )
