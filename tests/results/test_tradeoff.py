"""`results tradeoff`: the answer is Pareto optimal in score, latency and size; exports are written once."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.files import only_process
from results import cli, study
from results.tradeoff import Option, best_within
from tasks.common.cli.main import main
from tests.tasks.common.conftest import _quick_exports, write_onnx_once
from tests.tasks.conftest import error_line_of

__all__ = ["_quick_exports", "error_line_of", "write_onnx_once"]


def test_the_answer_is_on_the_frontier(rng: np.random.Generator) -> None:
    """Against the definition, for ten random limits; few different values, so that many networks are equal in one."""
    options = [
        Option(str(number), "mobilenet_1.0", 224, "int8", *map(float, rng.integers(1, 9, 3)), "")
        for number in range(12)
    ]
    answers = []
    for max_ms, max_mb in rng.uniform(0.5, 9, (10, 2)):
        best = best_within(options, max_ms, max_mb)
        answers.append(best)
        if best is None:
            assert all(option.latency_ms > max_ms or option.megabytes > max_mb for option in options)
            continue
        assert best.latency_ms <= max_ms
        assert best.megabytes <= max_mb
        for option in options:
            no_worse = option.score >= best.score and option.latency_ms <= best.latency_ms
            if no_worse and option.megabytes <= best.megabytes:
                assert option[4:7] == best[4:7]
            if option.score > best.score:
                assert option.latency_ms > max_ms or option.megabytes > max_mb
    assert None in answers
    assert len(set(answers)) > 2


@pytest.fixture(scope="module")
def folder(generated_roots: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run twice."""
    path = tmp_path_factory.mktemp("runs")
    data = ["--data.root", str(generated_roots("classification")), "--data.format", "stanford_dogs"]
    small = ["--loop.num_workers", "0", "--optim.epochs", "1", "--optim.batch_size", "8", "--optim.ema_decay", "null"]
    words = ["--backbone.name", "mobilenet_0.1", "--data.input_size", "32", "--run_dir", str(path / "cells/first")]
    assert main("classification", ["train", *data, *small, *words]) == 0
    shutil.copytree(path / "cells/first", path / "cells/second")
    return path


def test_exports_are_written_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each precision is exported in this process, as another one takes seconds to start, and copied for equal runs."""

    def run(command: list[str], _: str) -> None:
        commands.append(command)
        out = Path(command[command.index("--out") + 1])
        exported = folder / "exports" / "cells" / "first" / ("int8" if "--int8" in command else "float32")
        if exported.exists():
            shutil.copytree(exported, out)
        else:
            assert main(command[0].removeprefix("tasks."), command[1:]) == 0

    commands: list[list[str]] = []
    monkeypatch.setattr(study, "run_command", run)
    assert cli.main(["tradeoff", str(folder), "--ms", "1000"]) == 0
    assert len(commands) == 4
    answer = capsys.readouterr().out.splitlines()[-1]
    with (folder / "tradeoff.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["precision"]) for row in rows] == [
        ("cells/first", "float32"),
        ("cells/first", "int8"),
        ("cells/second", "float32"),
        ("cells/second", "int8"),
    ]
    for row in rows:
        assert float(row["megabytes"]) == (Path(row["export"]) / "model.onnx").stat().st_size / 1e6
    scores = [float(row["score"]) for row in rows]
    assert f" {max(scores):.3f} " in answer
    with (folder / "cells/first/metrics.json").open() as file:
        assert scores[0] == pytest.approx(json.load(file)["top1"])

    smallest = min(float(row["megabytes"]) for row in rows)
    assert cli.main(["tradeoff", str(folder), "--mb", str(smallest)]) == 0
    assert cli.main(["tradeoff", str(folder), "--mb", "0.001"]) == 3
    assert f"{smallest:.2f} MB up" in capsys.readouterr().out
    assert len(commands) == 4, "exports are kept"
    os.utime(folder / "cells/second/best.pt")
    assert cli.main(["tradeoff", str(folder)]) == 0
    assert len(commands) == 6, "those of a run that was trained since are written anew"


def test_runs_that_cannot_be_compared(folder: Path, tmp_path: Path, error_line_of: Callable[..., str]) -> None:
    def error_line() -> str:
        return error_line_of(lambda *words: cli.main(words), "tradeoff", str(tmp_path))

    assert "expected folders of runs" in error_line()
    for name in ("first", "second"):
        shutil.copytree(folder / "cells" / name, tmp_path / name)
    config = tmp_path / "second" / "config.yaml"
    config.write_text(re.sub("root: .*", "root: elsewhere", config.read_text()))
    assert "scores on different data cannot be compared" in error_line()


def test_a_second_process_in_the_same_folder_ends_in_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error_line_of: Callable[..., str]
) -> None:
    """Such as a sweep: its networks are not trained to the end, and exports would be written twice."""
    monkeypatch.setattr("datasets.files.LOCK_WAIT_S", 0)
    with only_process(folder, "--out"):
        line = error_line_of(lambda *words: cli.main(words), "tradeoff", str(folder))
    assert line.startswith(f"error: FOLDER: another process is working on {folder}; wait until it has ended")
