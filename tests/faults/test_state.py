"""Damage, a lost loader process, numbers that are not finite, clocks, and two processes in one folder."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.common.runs import checkpoint
from tasks.common.training.state import TrainingState
from tasks.common.training.step import train_step
from tests.faults.commands import COMMANDS, NO_WORKER, OUT, training
from tests.faults.conftest import Undisturbed
from tests.faults.processes import Ended, Fault, Running, Words, run
from tests.faults.test_disk import go_on
from tests.tasks.common.runs import end_of_run

pytestmark = pytest.mark.faults
TEN_YEARS_S = 315_000_000


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "missing"])
def test_a_damaged_newest_checkpoint(damage: str, undisturbed: Callable[[str], Undisturbed], trial: Path) -> None:
    whole = undisturbed("train")
    run(COMMANDS["train"].start, trial, Fault(whole.ended.num_changes // 2, "kill"))
    path = trial / OUT / checkpoint.LAST
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "zeros": bytes(len(data))}.get(damage, b""))
    if damage == "missing":
        path.unlink()
    resumed = run(COMMANDS["train"].resume, trial)
    assert resumed.status == 0, resumed.err
    assert f"resuming from {OUT}/previous.pt instead" in resumed.err
    assert COMMANDS["train"].end(trial) == whole.end


def test_a_shard_that_is_cut_off(trial: Path) -> None:
    """A line names it, and its whole records are used; copied again, it is as before."""
    convert = Words(["datasets", "convert", "../data/attributes", "--to", "webdataset", "--out", "shards"])
    assert run(convert, trial).status == 0

    def train(name: str) -> Ended:
        settings = [*training("attributes", *NO_WORKER), "--data.root", "shards"]
        ended = run(Words(["tasks.attributes", "train", *settings, "--run_dir", name]), trial)
        assert ended.status == 0, ended.err
        return ended

    assert "it ends " not in train("whole").err
    (tar,) = trial.glob("shards/*train*.tar")
    data = tar.read_bytes()
    tar.write_bytes(data[: len(data) // 2])
    err = train("cut").err
    assert any(f"{tar.name}: it ends in " in line and "records are used" in line for line in err.splitlines()), err
    refused = run(Words(["tasks.attributes", "train", "--resume", "whole"]), trial)
    assert refused.status == 1
    assert "cannot resume: the data have changed: " in refused.error
    tar.write_bytes(data)
    train("again")
    assert end_of_run(trial / "again") == end_of_run(trial / "whole")


def test_a_loader_process_that_is_killed(undisturbed: Callable[[str], Undisturbed], trial: Path) -> None:
    whole, running = undisturbed("train"), Running(COMMANDS["train"].start, trial)
    children = Path(f"/proc/{running.id}/task/{running.id}/children")
    running.wait_until(lambda: (trial / OUT / checkpoint.LAST).exists() and children.read_text() != "")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    ended = running.end()
    assert ended.status == 1, ended.err
    assert "a process that reads images was ended" in ended.error
    go_on("train", trial, whole)


def not_finite(*_: object) -> float:
    """In place of the learning rate of a step."""
    return float("inf")


def with_statistics_that_are_not_finite(
    objective: Any, network: Any, state: TrainingState, *more: Any, **words: Any
) -> None:
    """In place of a training step: with weights that are finite."""
    train_step(objective, network, state, *more, **words)
    next(buffer for name, buffer in state.model.named_buffers() if name.endswith("running_var")).fill_(float("nan"))


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", not_finite), ("train_step", with_statistics_that_are_not_finite)]
)
def test_what_is_not_finite_is_in_no_checkpoint(
    name: str, value: object, undisturbed: Callable[[str], Undisturbed], trial: Path
) -> None:
    whole = undisturbed("train")
    run(COMMANDS["train"].start, trial, Fault(whole.ended.num_changes // 2, "kill"))
    resume = COMMANDS["train"].resume
    ended = run(type(resume)(resume.words, {f"tasks.common.training.fit:{name}": value}), trial)
    assert ended.status == 1, ended.err
    assert "not finite" in ended.error
    for path in (trial / OUT).glob("*.pt"):
        weights = checkpoint.load_checkpoint(path)["model"].values()
        assert all(bool(torch.isfinite(weight).all()) for weight in weights), path
    go_on("train", trial, whole)


@pytest.mark.parametrize("name", ["train", "distill", "index", "predict", "sweep"])
def test_a_clock_that_is_set_back(name: str, undisturbed: Callable[[str], Undisturbed], trial: Path) -> None:
    """All files are from the future then."""
    whole = undisturbed(name)
    run(COMMANDS[name].start, trial, Fault(whole.ended.num_changes // 2, "kill"))
    later = time.time() + TEN_YEARS_S
    for path in trial.rglob("*"):
        os.utime(path, (later, later))
    go_on(name, trial, whole)


@pytest.mark.parametrize("name", ["train", "distill", "index", "predict", "sweep"])
def test_a_second_process_in_the_same_folder(name: str, undisturbed: Callable[[str], Undisturbed], trial: Path) -> None:
    """It ends in a line, and the first one is not disturbed."""
    whole, first = undisturbed(name), Running(COMMANDS[name].start, trial)
    lock = trial / OUT / (".g.lock" if name == "index" else ".lock")
    first.wait_until(lambda: lock.exists() and COMMANDS[name].can_resume(trial))
    os.kill(first.id, signal.SIGSTOP)
    second = run(COMMANDS[name].resume, trial)
    os.kill(first.id, signal.SIGCONT)
    assert second.status == 1, second.err
    assert f"another process is working on {OUT}" in second.error
    ended = first.end()
    assert ended.status == 0, ended.err
    assert COMMANDS[name].end(trial) == whole.end
    assert not lock.exists()
