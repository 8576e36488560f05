"""Commands and their error messages; existing files are never overwritten."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.images.read import write_image
from tests.tasks.common.runs import run_detection, train_detection


def test_an_existing_run_folder_is_not_changed(unbroken: Path, generated_root: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in unbroken.iterdir()}
    failed = train_detection(generated_root, "--run_dir", str(unbroken))
    assert failed.returncode == 1
    assert (
        failed.stderr == f"error: --run_dir: {unbroken} exists already and is not overwritten; choose another folder\n"
    )
    assert {path.name: path.stat().st_mtime_ns for path in unbroken.iterdir()} == before


def test_a_missing_root_is_an_error_before_a_run_folder_is_made(tmp_path: Path) -> None:
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
    assert "cannot resume: the data have changed: num_images was 24 and is now 10; give --data.root" in failed.stderr
    assert (unbroken / "last.pt").read_bytes() == before


@pytest.mark.parametrize(("key", "old", "new"), [("optim.epochs", "3", "9"), ("loop.precision", "'fp32'", "bf16")])
def test_resume_with_other_settings_is_refused(unbroken: Path, key: str, old: str, new: str) -> None:
    failed = run_detection("train", "--resume", str(unbroken), f"--{key}", new)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {key}: the run was started with {old}, and --resume continues it exactly")


def test_evaluate_reproduces_the_runs_metrics(unbroken: Path) -> None:
    done = run_detection("evaluate", "--run", str(unbroken), "--json")
    assert done.returncode == 0, done.stderr
    printed, saved = json.loads(done.stdout), json.loads((unbroken / "metrics.json").read_text())
    assert printed["AP"] == pytest.approx(saved["AP"], abs=1e-9)
    assert (unbroken / "evaluate-val" / "predictions.png").is_file()
    for folder in unbroken.glob("evaluate-val*"):  # other tests compare the run's files
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_checkpoint_of_another_task_and_a_damaged_one_are_refused(unbroken: Path, tmp_path: Path) -> None:
    for index, content in enumerate(({"task": "embedding"}, None)):
        run = tmp_path / str(index)
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


def copy_data(generated_root: Path, to: Path, *, num_broken: int) -> Path:
    import shutil

    shutil.copytree(generated_root, to)
    for path in sorted((to / "train2017").glob("*.jpg"))[:num_broken]:
        path.write_bytes(path.read_bytes()[:500])
    return to


def test_a_broken_image_is_named_and_skipped_up_to_a_fraction(generated_root: Path, tmp_path: Path) -> None:
    data = copy_data(generated_root, tmp_path / "data", num_broken=1)
    failed = train_detection(data, "--run_dir", str(tmp_path / "a"), "--optim.epochs", "1")
    assert failed.returncode == 1
    assert "1 of 24 images of train cannot be read; the first: " in failed.stderr
    assert "or allow it: --loop.max_unreadable_fraction 0.05" in failed.stderr
    words = ("--run_dir", str(tmp_path / "b"), "--loop.max_unreadable_fraction", "0.05", "--optim.epochs", "1")
    done = train_detection(data, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("000000000000.jpg: truncated image; the image is left out") == 1


def test_a_loss_that_is_not_finite_stops_with_advice(generated_root: Path, tmp_path: Path) -> None:
    too_fast = ("--optim.lr", "1e9", "--optim.clip_norm", "null", "--optim.warmup_epochs", "0")
    failed = train_detection(generated_root, "--run_dir", str(tmp_path / "run"), *too_fast)
    assert failed.returncode == 1
    assert "a lower optim.lr" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_predict_takes_a_threshold_from_the_runs_table(unbroken: Path, generated_root: Path, tmp_path: Path) -> None:
    """The boxes are those from that threshold on; where there is no table, as in training, a line says so."""
    run, images = tmp_path / "run", str(generated_root / "val2017")
    shutil.copytree(unbroken, run)

    def scores(threshold: str) -> tuple[list[float], str]:
        out = tmp_path / threshold
        done = run_detection("predict", "--run", str(run), images, "--out", str(out), "--threshold", threshold)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
        return [box["score"] for record in records for box in record["detections"]], done.stderr

    every, _ = scores("0")
    middle = (min(every) + max(every)) / 2
    table = run / "thresholds.csv"
    table.write_text(
        "class,threshold,true_positives,false_positives,objects\n"
        f"all,{middle / 2},9,6,10\nall,{middle},8,4,10\nall,{2 * middle},4,0,10\n"
    )
    some, said = scores("recall=0.8")
    assert some == [score for score in every if score >= middle]
    assert 0 < len(some) < len(every)
    assert f"threshold {middle:g} for recall=0.8: precision 0.667, recall 0.800 in {table}\n" in said
    table.unlink()
    failed = run_detection("predict", "--run", str(run), images, "--threshold", "f1")
    assert failed.returncode == 1
    assert failed.stderr.endswith(f"thresholds.csv, which {run} does not have; evaluate --run {run} writes it\n")
    failed = run_detection("train", "--data.root", str(generated_root), "--threshold", "f1")
    assert failed.returncode == 1
    assert failed.stderr.endswith(
        "error: threshold: f1 is looked up in a run's thresholds.csv, and there is no run; give a number\n"
    )


def test_predict_on_image_folder_glob_and_video(unbroken: Path, generated_root: Path, tmp_path: Path) -> None:
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
    single = sorted((generated_root / "val2017").iterdir())[0]
    out = tmp_path / "out"
    inputs = [str(single), str(folder), str(folder / "*.png"), str(tmp_path / "clip.mp4")]
    done = run_detection("predict", "--run", str(unbroken), *inputs, "--out", str(out), "--threshold", "0.0")
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


def test_predict_refuses_inputs_without_files_and_existing_folders(unbroken: Path, tmp_path: Path) -> None:
    failed = run_detection("predict", "--run", str(unbroken), str(tmp_path / "*.jpg"), "--out", str(tmp_path / "out"))
    assert failed.returncode == 1
    assert "no image or video there" in failed.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "a.jpg").write_text("no image")
    failed = run_detection("predict", "--run", str(unbroken), str(tmp_path / "a.jpg"), "--out", str(tmp_path))
    assert "exists already" in failed.stderr


def test_cost_of_a_model_is_that_of_its_settings(unbroken: Path) -> None:
    def cost(*words: str) -> dict[str, Any]:
        done = run_detection("cost", *words, "--json")
        assert done.returncode == 0, done.stderr
        counted: dict[str, Any] = json.loads(done.stdout)
        return counted

    num_classes = len(json.loads((unbroken / "metadata.json").read_text())["class_names"])
    configured = cost("--config", str(unbroken / "config.yaml"), "--num_classes", str(num_classes))
    assert cost("--pretrained", str(unbroken)) == configured
    assert cost() != configured
    refused = run_detection("cost", "--pretrained", str(unbroken), "--num_classes", "3")
    assert refused.returncode == 1
    assert "--num_classes: cannot be set with --pretrained" in refused.stderr
