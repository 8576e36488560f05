"""A run is a function of its settings: killed or stopped and resumed, its result is bit-equal."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.common.cli.parser import parse_arguments
from tasks.common.config import OptimConfig
from tasks.common.training import fit as fit_module
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask
from tests.tasks.common.runs import EPOCHS, STEPS_PER_EPOCH, TIMEOUT_S, end_of_run, read_log, run_detection, words_of


def stop_within_an_epoch(words: list[str], run: Path, signum: int) -> subprocess.CompletedProcess[str]:
    """Start a run, and send it a signal within an epoch; the process is paused while its checkpoint is read."""
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            os.kill(process.pid, signal.SIGSTOP)
            step = torch.load(run / "last.pt", weights_only=True)["step"] if (run / "last.pt").exists() else 0
            if step > STEPS_PER_EPOCH and 1 < step % STEPS_PER_EPOCH < STEPS_PER_EPOCH - 2:
                break
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.05)
        if signum == signal.SIGKILL:
            os.kill(process.pid, signum)
        else:
            os.killpg(process.pid, signum)  # as a batch system does: the loader processes get it too
            os.kill(process.pid, signal.SIGCONT)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return subprocess.CompletedProcess(words, process.returncode, None, stderr)


def test_run_folder_has_all_files(unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert names == {
        *("config.yaml", "metadata.json", "log.csv", "metrics.json", "curves.png", "predictions.png"),
        *("last.pt", "previous.pt", "best.pt", "thresholds.csv", "README.md"),
    }
    rows = read_log(unbroken)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [bool(row["AP"]) for row in rows] == [False, True, True]  # evaluate_every 2, and the last
    metrics = json.loads((unbroken / "metrics.json").read_text())
    assert metrics["AP"] == pytest.approx(max(float(row["AP"]) for row in rows if row["AP"]), abs=1e-6)
    assert metrics["num_images"] == 8


def test_kill_9_within_an_epoch_and_resume(unbroken: Path, generated_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    killed = stop_within_an_epoch(words_of(generated_root, "--run_dir", str(run)), run, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    step = torch.load(run / "last.pt", weights_only=True)["step"]
    assert step % STEPS_PER_EPOCH != 0
    assert run_detection("train", "--resume", str(run)).returncode == 0
    assert end_of_run(run) == end_of_run(unbroken)


def test_sigterm_saves_exits_and_prints_how_to_resume(unbroken: Path, generated_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    stopped = stop_within_an_epoch(words_of(generated_root, "--run_dir", str(run)), run, signal.SIGTERM)
    assert stopped.returncode == 130
    assert f"continue with: python -m tasks.detection train --resume {run}" in stopped.stderr
    # The number of workers changes nothing.
    assert run_detection("train", "--resume", str(run), "--loop.num_workers", "0").returncode == 0
    assert end_of_run(run) == end_of_run(unbroken)


@pytest.mark.parametrize("last_step", [STEPS_PER_EPOCH - 2, STEPS_PER_EPOCH - 1, EPOCHS * STEPS_PER_EPOCH - 1])
def test_stopped_beside_and_at_the_end_of_an_epoch(
    unbroken: Path, generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: int
) -> None:
    """The signal arrives within a chosen step."""
    config = parse_arguments("detection", DetectionConfig, Path(), words_of(generated_root)[3:]).config
    rate = fit_module.learning_rate

    def rate_with_signal(optim: OptimConfig, step: int, steps_per_epoch: int) -> float:
        if step == last_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return rate(optim, step, steps_per_epoch)

    monkeypatch.setattr(fit_module, "learning_rate", rate_with_signal)
    with pytest.raises(fit_module.InterruptedRunError):  # after the last step, too: a caller's next run must not start
        fit_module.fit(DetectionTask.from_data(config), tmp_path)
    monkeypatch.undo()
    fit_module.fit(DetectionTask.from_data(config), tmp_path, resume=True)
    assert end_of_run(tmp_path) == end_of_run(unbroken)


def test_a_network_that_samples_resumes_the_same(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the second epoch, Faster R-CNN samples the same regions after resuming."""
    small = ("--model", "faster_rcnn", "--faster_rcnn.num_sampled", "4", "--faster_rcnn.num_proposals", "20")
    words = words_of(generated_root, *small, "--optim.epochs", "2", "--loop.num_workers", "0")[3:]
    config = parse_arguments("detection", DetectionConfig, Path(), words).config
    unbroken, stopped = tmp_path / "unbroken", tmp_path / "stopped"
    for run in (unbroken, stopped):
        run.mkdir()
    fit_module.fit(DetectionTask.from_data(config), unbroken)
    save = fit_module.checkpoint.save_last

    def save_and_stop(run: Path, content: dict[str, Any]) -> None:
        save(run, content)
        if content["step"] == STEPS_PER_EPOCH + 5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fit_module.checkpoint, "save_last", save_and_stop)
    with pytest.raises(fit_module.InterruptedRunError):
        fit_module.fit(DetectionTask.from_data(config), stopped)
    monkeypatch.undo()
    torch.manual_seed(99)  # another process has another RNG state
    fit_module.fit(DetectionTask.from_data(config), stopped, resume=True)
    assert end_of_run(stopped) == end_of_run(unbroken)


@pytest.mark.parametrize(
    "settings",
    [
        {"loop.precision": "bf16", "optim.accumulate": 2, "optim.name": "rmsprop", "optim.schedule": "exponential"},
        {"loop.precision": "fp16", "optim.ema_decay": "null", "optim.clip_norm": "null", "optim.name": "adamw"},
    ],
    ids=("bf16-accumulate", "fp16-plain"),
)
@pytest.mark.filterwarnings("ignore:loop.precision:UserWarning")
def test_other_settings_train_too(generated_root: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    more = [f"--{key}={value}" for key, value in settings.items()]
    words = words_of(generated_root, "--optim.epochs", "1", "--optim.lr", "0.001", *more)[3:]
    config = parse_arguments("detection", DetectionConfig, Path(), words).config
    metrics = fit_module.fit(DetectionTask.from_data(config), tmp_path)
    assert 0 <= metrics["AP"] <= 1
    assert int(read_log(tmp_path)[-1]["step"]) == STEPS_PER_EPOCH // settings.get("optim.accumulate", 1)
