"""Sweeps: each cell is trained once, also after a kill; the Pareto front against its definition."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from results import cli, study
from results.study import pareto
from tests.conftest import REPOSITORY


@pytest.fixture
def words(generated_roots: Callable[[str], Path]) -> list[str]:
    data = ["--data.root", str(generated_roots("classification")), "--data.format", "stanford_dogs"]
    small = ["--loop.num_workers", "0", "--optim.epochs", "1", "--optim.batch_size", "8", "--optim.ema_decay", "null"]
    grid = ["--task", "classification", "--widths", "0.25", "0.1", "--sizes", "48", "32"]
    return ["sweep", *grid, *data, *small]


def test_pareto_front_against_its_definition(rng: np.random.Generator) -> None:
    scores, costs = rng.integers(0, 8, 40) / 8, rng.integers(1, 8, 40) * 1.0
    expected = [
        not any(
            scores[j] >= scores[i] and costs[j] <= costs[i] and (scores[j], costs[j]) != (scores[i], costs[i])
            for j in range(40)
        )
        for i in range(40)
    ]
    assert pareto(scores, costs).tolist() == expected


def test_killed_sweep_resumes(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sweep"
    command = [sys.executable, "-m", "results", *words, "--out", str(out)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, start_new_session=True)
    finished: list[Path] = []
    for _ in itertools.repeat(None, 2400):
        finished = sorted(out.glob("cells/*/metrics.json"))
        if finished:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert finished
    times = {path: path.stat().st_mtime_ns for path in finished}

    assert cli.main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "rank correlation of mult-adds with latency" in printed
    assert {path: path.stat().st_mtime_ns for path in finished} == times, "finished cells are not trained again"
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["width"], row["input_size"]) for row in rows] == [
        ("0.25", "48"),
        ("0.25", "32"),
        ("0.1", "48"),
        ("0.1", "32"),
    ]
    mult_adds = [float(row["mult_adds"]) for row in rows]
    assert mult_adds[0] == max(mult_adds)
    assert mult_adds[3] == min(mult_adds)
    assert cv2.imread(str(out / "sweep.png")) is not None

    assert cli.main([*words, "--out", str(out), "--optim.lr", "0.5"]) == 1
    assert "has sweep.json with settings" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["last.pt", "previous.pt"])
def test_a_cell_with_a_checkpoint_is_resumed(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(study, "run_command", lambda words, title: commands.append(words))
    cell = tmp_path / "0.25_32"
    for file in ("config.yaml", left):
        cell.mkdir(exist_ok=True)
        (cell / file).touch()
        study.Step(("tasks.classification", "train"), ["--data.input_size", "32"], cell).make("cell")
    started, resumed = (command[2:] for command in commands)
    assert started == ["--data.input_size", "32", "--run_dir", str(cell)]
    assert resumed == ["--resume", str(cell)]
    assert (cell / left).exists()


def test_a_cell_is_trained_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process finds our packages, which are not installed."""
    monkeypatch.chdir(tmp_path)
    study.Step(("tasks.classification", "train"), ["--help"], tmp_path / "cell").make("cell")


def test_a_command_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Once: in the error, and not above it, too."""
    with pytest.raises(study.CommandError, match=r"^one: expected a verb, .*-m tasks\.detection fly$") as failure:
        study.run_command(["tasks.detection", "fly"], "one")
    assert failure.value.reason == "expected a verb, got fly"
    assert "error: " not in capsys.readouterr().err


def test_no_cell_is_started_after_the_budget(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--out", str(tmp_path / "sweep"), "--budget", "0"]) == 3
    assert "4 of 4 cells are left" in capsys.readouterr().err


def test_each_width_needs_its_weights(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*words, "--out", str(tmp_path), "--weights", "a.h5"])
    assert "--weights: expected one for each of the 2 widths" in capsys.readouterr().err
