"""A run is a function of its settings: killed and resumed, stopped and resumed, it ends bit for bit the same."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.images import write_image
from tasks.common import fit as fit_module
from tasks.common.config import OptimConfig
from tasks.common.parser import parse_arguments
from tasks.detection import DetectionConfig, DetectionTask

EPOCHS, STEPS_PER_EPOCH = 3, 12
TIMEOUT_S = 240


def words_of(root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tasks.detection", "train", "--data.root", str(root), "--data.input_size", "64"),
        *("--backbone.name", "mobilenet_0.25", "--optim.epochs", str(EPOCHS), "--optim.batch_size", "2"),
        *("--loop.num_workers", "1", "--loop.evaluate_every", "2", "--loop.checkpoint_minutes", "0", *more),
    ]


@pytest.fixture(scope="module")
def unbroken(drawn_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    subprocess.run(words_of(drawn_root, "--run_dir", str(run)), check=True, capture_output=True, timeout=TIMEOUT_S)
    return run


def assert_same_end(run: Path, unbroken: Path) -> None:
    for name in ("last.pt", "best.pt"):
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (run, unbroken))
        assert ours.get("step") == theirs.get("step")
        for key, weight in theirs["model"].items():
            assert torch.equal(ours["model"][key], weight), key
    without_times = [
        [{k: v for k, v in row.items() if k not in ("images_per_s", "wait_share")} for row in read_log(folder)]
        for folder in (run, unbroken)
    ]
    assert without_times[0] == without_times[1]


def read_log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def stop_in_the_middle(words: list[str], run: Path, number: int) -> subprocess.CompletedProcess[str]:
    """Start a run, and send it a signal once it is some steps into an epoch, frozen while we look."""
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
        if number == signal.SIGKILL:
            os.kill(process.pid, number)
        else:
            os.killpg(process.pid, number)  # as a batch system does: the loader processes get it too
            os.kill(process.pid, signal.SIGCONT)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return subprocess.CompletedProcess(words, process.returncode, None, stderr)


def test_run_folder_has_what_a_person_looks_at(unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert names == {
        *("config.yaml", "log.csv", "metrics.json", "curves.png", "predictions.png"),
        *("last.pt", "previous.pt", "best.pt"),
    }
    rows = read_log(unbroken)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [bool(row["AP"]) for row in rows] == [False, True, True]  # evaluate_every 2, and the last
    metrics = json.loads((unbroken / "metrics.json").read_text())
    assert metrics["AP"] == pytest.approx(max(float(row["AP"]) for row in rows if row["AP"]), abs=1e-6)
    assert metrics["num_images"] == 8


def test_kill_9_within_an_epoch_and_resume(unbroken: Path, drawn_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    killed = stop_in_the_middle(words_of(drawn_root, "--run_dir", str(run)), run, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    step = torch.load(run / "last.pt", weights_only=True)["step"]
    assert step % STEPS_PER_EPOCH != 0
    resume = [sys.executable, "-m", "tasks.detection", "train", "--resume", str(run)]
    subprocess.run(resume, check=True, capture_output=True, timeout=TIMEOUT_S)
    assert_same_end(run, unbroken)


def test_sigterm_saves_exits_and_says_how_to_go_on(unbroken: Path, drawn_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    stopped = stop_in_the_middle(words_of(drawn_root, "--run_dir", str(run)), run, signal.SIGTERM)
    assert stopped.returncode == 130
    assert f"continue with: python -m tasks.detection train --resume {run}" in stopped.stderr
    # Other numbers of workers change nothing.
    resume = [sys.executable, "-m", "tasks.detection", "train", "--resume", str(run), "--loop.num_workers", "0"]
    subprocess.run(resume, check=True, capture_output=True, timeout=TIMEOUT_S)
    assert_same_end(run, unbroken)


@pytest.mark.parametrize("last_step", [STEPS_PER_EPOCH - 2, STEPS_PER_EPOCH - 1, EPOCHS * STEPS_PER_EPOCH - 1])
def test_stopped_beside_and_at_the_end_of_an_epoch(
    unbroken: Path, drawn_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: int
) -> None:
    """The signal arrives within a chosen step."""
    config = parse_arguments("detection", DetectionConfig, Path(), words_of(drawn_root)[3:]).config
    rate = fit_module.learning_rate

    def rate_with_signal(optim: OptimConfig, step: int, steps_per_epoch: int) -> float:
        if step == last_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return rate(optim, step, steps_per_epoch)

    monkeypatch.setattr(fit_module, "learning_rate", rate_with_signal)
    if last_step == EPOCHS * STEPS_PER_EPOCH - 1:
        fit_module.fit(DetectionTask.from_data(config), tmp_path)  # nothing is left to stop
    else:
        with pytest.raises(fit_module.InterruptedRunError):
            fit_module.fit(DetectionTask.from_data(config), tmp_path)
        monkeypatch.undo()
        fit_module.fit(DetectionTask.from_data(config), tmp_path, resume=True)
    assert_same_end(tmp_path, unbroken)


def run_detection(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tasks.detection", *words],
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_S,
    )


def test_two_processes_train_one_model(drawn_root: Path, tmp_path: Path) -> None:
    """Evaluation counts each image once: the saved model, evaluated by one process, scores the same."""
    run = tmp_path / "run"
    more = ("--run_dir", str(run), "--optim.batch_size", "4", "--optim.epochs", "2")
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        *words_of(drawn_root, *more)[1:],
    ]
    done = subprocess.run(words, capture_output=True, check=False, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["num_images"] == 8
    assert int(read_log(run)[-1]["step"]) == 2 * 24 // 4
    alone = run_detection("evaluate", "--run", str(run), "--json")
    assert json.loads(alone.stdout)["AP"] == pytest.approx(metrics["AP"], abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"loop.precision": "bf16", "optim.accumulate": 2, "optim.name": "rmsprop", "optim.schedule": "exponential"},
        {"loop.precision": "fp16", "optim.ema_decay": "null", "optim.clip_norm": "null", "optim.name": "adamw"},
    ],
    ids=("bf16-accumulate", "fp16-plain"),
)
@pytest.mark.filterwarnings("ignore:loop.precision:UserWarning")
def test_other_settings_train_too(drawn_root: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    more = [f"--{key}={value}" for key, value in settings.items()]
    words = words_of(drawn_root, "--optim.epochs", "1", "--optim.lr", "0.001", *more)[3:]
    config = parse_arguments("detection", DetectionConfig, Path(), words).config
    metrics = fit_module.fit(DetectionTask.from_data(config), tmp_path)
    assert 0 <= metrics["AP"] <= 1
    assert int(read_log(tmp_path)[-1]["step"]) == STEPS_PER_EPOCH // settings.get("optim.accumulate", 1)


def test_existing_run_folder_is_left_alone(unbroken: Path, drawn_root: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in unbroken.iterdir()}
    failed = subprocess.run(
        words_of(drawn_root, "--run_dir", str(unbroken)), capture_output=True, check=False, text=True, timeout=TIMEOUT_S
    )
    assert failed.returncode == 1
    assert (
        failed.stderr
        == f"error: --run_dir: {unbroken} exists already, and nothing in it is overwritten; name another\n"
    )
    assert {path.name: path.stat().st_mtime_ns for path in unbroken.iterdir()} == before


def test_missing_root_is_named_before_a_run_folder_is_made(tmp_path: Path) -> None:
    failed = run_detection("train", "--data.root", str(tmp_path / "none"), "--run_dir", str(tmp_path / "run"))
    assert failed.returncode == 1
    assert failed.stderr == f"error: data.root: there is no folder {tmp_path / 'none'}\n"
    assert not (tmp_path / "run").exists()


def test_resume_with_other_data_is_refused(unbroken: Path, tmp_path: Path) -> None:
    from datasets.sample.detection import write_sample

    other = tmp_path / "other"
    other.mkdir()
    write_sample(other, {"train2017": 10, "val2017": 4})
    before = (unbroken / "last.pt").read_bytes()
    failed = run_detection("train", "--resume", str(unbroken), "--data.root", str(other))
    assert failed.returncode == 1
    assert "cannot resume: its num_images is 24, but the data now give 10" in failed.stderr
    assert (unbroken / "last.pt").read_bytes() == before


def test_resume_with_other_settings_is_refused(unbroken: Path) -> None:
    failed = run_detection("train", "--resume", str(unbroken), "--optim.epochs", "9")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: optim.epochs: the run was made with 3, and --resume continues it exactly")


def test_evaluate_reproduces_the_runs_metrics(unbroken: Path) -> None:
    done = run_detection("evaluate", "--run", str(unbroken), "--json")
    assert done.returncode == 0, done.stderr
    printed, saved = json.loads(done.stdout), json.loads((unbroken / "metrics.json").read_text())
    assert printed["AP"] == pytest.approx(saved["AP"], abs=1e-9)
    assert (unbroken / "evaluate-val" / "predictions.png").is_file()
    for folder in unbroken.glob("evaluate-val*"):  # leave the run as the other tests expect it
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_checkpoint_of_another_task_and_a_damaged_one_are_refused(unbroken: Path, tmp_path: Path) -> None:
    for number, content in enumerate(({"task": "embedding"}, None)):
        run = tmp_path / str(number)
        run.mkdir()
        (run / "config.yaml").write_bytes((unbroken / "config.yaml").read_bytes())
        if content is None:
            (run / "best.pt").write_bytes((unbroken / "best.pt").read_bytes()[:1000])
        else:
            torch.save(content, run / "best.pt")
        failed = run_detection("evaluate", "--run", str(run))
        assert failed.returncode == 1
        assert failed.stderr.startswith(f"error: {run / 'best.pt'}: ")
        assert failed.stderr.count("\n") == 1


def copy_data(drawn_root: Path, to: Path, *, num_broken: int) -> Path:
    import shutil

    shutil.copytree(drawn_root, to)
    for path in sorted((to / "train2017").glob("*.jpg"))[:num_broken]:
        path.write_bytes(path.read_bytes()[:500])
    return to


def test_a_broken_image_is_named_and_skipped_up_to_a_share(drawn_root: Path, tmp_path: Path) -> None:
    data = copy_data(drawn_root, tmp_path / "data", num_broken=1)
    words = words_of(data, "--run_dir", str(tmp_path / "a"), "--optim.epochs", "1")
    failed = subprocess.run(words, capture_output=True, check=False, text=True, timeout=TIMEOUT_S)
    assert failed.returncode == 1
    assert (
        "1 of 24 images are unreadable, more than the share 0.01 that loop.max_unreadable_share allows" in failed.stderr
    )
    words = words_of(
        data, "--run_dir", str(tmp_path / "b"), "--loop.max_unreadable_share", "0.05", "--optim.epochs", "1"
    )
    done = subprocess.run(words, capture_output=True, check=False, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("000000000000.jpg: truncated image; the image is left out") == 1


def test_a_loss_that_is_not_finite_stops_with_advice(drawn_root: Path, tmp_path: Path) -> None:
    words = words_of(
        drawn_root,
        "--run_dir",
        str(tmp_path / "run"),
        "--optim.lr",
        "1e9",
        "--optim.clip_norm",
        "null",
        "--optim.warmup_epochs",
        "0",
    )
    failed = subprocess.run(words, capture_output=True, check=False, text=True, timeout=TIMEOUT_S)
    assert failed.returncode == 1
    assert "a lower optim.lr" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_predict_on_image_folder_glob_and_video(unbroken: Path, drawn_root: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    folder = tmp_path / "photos"
    folder.mkdir()
    picture = np.full((60, 80, 3), 120, np.uint8)
    for name in ("a.jpg", "b.png", "c.png"):
        write_image(folder / name, picture)
    (folder / "broken.jpg").write_text("no image")
    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (80, 60))
    for _ in range(11):
        video.write(picture)
    video.release()
    single = sorted((drawn_root / "val2017").iterdir())[0]
    out = tmp_path / "out"
    inputs = [str(single), str(folder), str(folder / "*.png"), str(tmp_path / "clip.mp4")]
    done = run_detection("predict", "--run", str(unbroken), *inputs, "--out", str(out), "--show_score", "0.0")
    assert done.returncode == 0, done.stderr
    assert "broken.jpg: not an image" in done.stderr
    records: list[dict[str, Any]] = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [Path(record["image"]).name for record in records] == [single.name, "a.jpg", "b.png", "c.png"] + [
        "clip.mp4"
    ] * 11
    assert [record["frame"] for record in records[4:]] == list(range(11))
    for record in records:
        for detection in record["detections"]:
            x0, y0, x1, y1 = detection["box_xyxy"]
            assert 0 <= x0 < x1 <= record["width"]
            assert 0 <= y0 < y1 <= record["height"]
    assert {path.name for path in out.iterdir()} == {
        *("predictions.jsonl", single.name, "a.jpg", "b.jpg", "c.jpg", "clip.mp4")
    }
    drawn = cv2.VideoCapture(str(out / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 11


def test_predict_refuses_what_matches_nothing_and_folders_that_exist(unbroken: Path, tmp_path: Path) -> None:
    failed = run_detection("predict", "--run", str(unbroken), str(tmp_path / "*.jpg"), "--out", str(tmp_path / "out"))
    assert failed.returncode == 1
    assert "no image or video there" in failed.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "a.jpg").write_text("no image")
    failed = run_detection("predict", "--run", str(unbroken), str(tmp_path / "a.jpg"), "--out", str(tmp_path))
    assert "exists already" in failed.stderr
