"""Training without validation images: where the settings ask for it, all is written but scores; else it is an error."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.files import CACHE_VARIABLE
from datasets.splits import MissingSplitError
from tasks.classification.task import ClassificationTask
from tasks.common.evaluation.scoring import inspect_data, validation_source
from tasks.common.runs.checkpoint import load_checkpoint
from tasks.common.settings import replace_settings
from tasks.common.training.fit import fit
from tasks.common.training.linear_probe import fit_linear_probe
from tasks.detection.task import DetectionTask
from tests.tasks.common.runs import read_log, train_detection
from tests.tasks.conftest import TinyTask

ALL_IMAGES = ("--data.val_fraction", "none")


def without_val(task_class: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the validation part away from the data of a task."""
    source = task_class.source

    def source_without_val(self: Any, split: str) -> Any:
        if split == "val":
            raise MissingSplitError("there are no images for val")
        return source(self, split)

    monkeypatch.setattr(task_class, "source", source_without_val)


def test_every_task_trains_on_all_images_without_scores(
    tiny_task: TinyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_task(data={"val_fraction": None}, optim={"epochs": 2, "batch_size": 8}, loop={"evaluate_every": 5})
    without_val(type(task), monkeypatch)
    assert fit(task, tmp_path) == {}
    assert {path.name for path in tmp_path.iterdir()} == {
        *("log.csv", "metrics.json", "curves.png", "predictions.png", "last.pt", "previous.pt", "best.pt"),
        "README.md",
    }
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"num_images": 0, "num_unreadable": 0, "epoch": 2}
    assert not [column for column in read_log(tmp_path)[0] if column.startswith(task.score_name)]
    state = load_checkpoint(tmp_path / "last.pt")
    evaluated = {name.removeprefix("module."): value for name, value in (state["ema"] or state["model"]).items()}
    best = load_checkpoint(tmp_path / "best.pt")
    assert all(torch.equal(value, evaluated[name]) for name, value in best["model"].items())


def test_a_linear_probe_too(
    generated_roots: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    task = TinyTask("classification/sample", "classification", generated_roots)(data={"val_fraction": None})
    run = tmp_path / "run"
    run.mkdir()
    without_val(ClassificationTask, monkeypatch)
    assert fit_linear_probe(task, run) == {}
    assert json.loads((run / "metrics.json").read_text()) == {"num_images": 0, "num_unreadable": 0}
    assert (run / "predictions.png").is_file()


def test_the_command_says_so_and_the_run_predicts(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_val(DetectionTask, monkeypatch)
    words = (*ALL_IMAGES, "--optim.epochs", "1", "--run_dir", str(tmp_path / "run"))
    done = train_detection(generated_root, *words)
    assert done.returncode == 0, done.stderr
    assert "no images are held out, so there are no scores; --data.val_fraction 0.2 sets some aside" in done.stderr
    assert "the pictures show training images" in done.stderr
    assert "nan" not in done.stderr + done.stdout


def test_it_is_an_error_where_nobody_asked_for_it(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_val(DetectionTask, monkeypatch)
    failed = train_detection(generated_root, "--run_dir", str(tmp_path / "run"))
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "error: there are no images for val"
    assert not (tmp_path / "run").exists()


def test_patience_has_nothing_to_watch(generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_val(DetectionTask, monkeypatch)
    words = (*ALL_IMAGES, "--optim.patience", "2", "--run_dir", str(tmp_path / "run"))
    failed = train_detection(generated_root, *words)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: optim.patience: expected null, since without validation")
    assert not (tmp_path / "run").exists()


def test_the_data_are_described_and_warned_about_before_weights_are_opened(
    generated_roots: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    task = TinyTask("detection/sample", "detection", generated_roots)()
    for split in ("train", "val"):
        task.source(split).warnings.append(f"something about {split}")
    with pytest.warns(UserWarning, match="something about") as caught:
        inspect_data(task)
    assert [str(warning.message) for warning in caught][:2] == ["something about train", "something about val"]
    assert capsys.readouterr().err.startswith("data: COCO annotations (annotations/instances_train2017.json, ")
    assert validation_source(task) is task.source("val")


def test_data_come_before_weights(generated_root: Path, tmp_path: Path) -> None:
    """Both are missing: the data are named, and nothing is written."""
    nowhere = str(tmp_path / "nowhere")
    failed = train_detection(tmp_path / "no data", "--pretrained", nowhere, "--run_dir", str(tmp_path / "run"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: data.root: there is no folder")
    failed = train_detection(generated_root, "--pretrained", nowhere, "--run_dir", str(tmp_path / "run"))
    assert failed.returncode == 1
    assert nowhere in failed.stderr
    assert not list(tmp_path.iterdir())


def test_other_settings_of_the_backbone_keep_the_data(generated_roots: Callable[[str], Path]) -> None:
    task = TinyTask("detection/sample", "detection", generated_roots)()
    other = task.with_settings(replace_settings(task.config, {"backbone.conventions": "timm"}))
    assert other.source("train") is task.source("train")
    assert (other.config.backbone.conventions, task.config.backbone.conventions) == ("timm", None)
    assert dataclasses.replace(other.config, backbone=task.config.backbone) == task.config


def test_curves_without_scores_have_losses(tmp_path: Path) -> None:
    from tasks.common.drawing.plot import draw_curves

    draw_curves([{"epoch": 1, "loss": 2.0, "lr": 0.1}, {"epoch": 2, "loss": 1.0, "lr": 0.0}], "AP", tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_log_has_only_losses(generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_val(DetectionTask, monkeypatch)
    words = (*ALL_IMAGES, "--optim.epochs", "1", "--run_dir", str(tmp_path / "run"))
    assert train_detection(generated_root, *words).returncode == 0
    with (tmp_path / "run" / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert set(row) == {"epoch", "step", "lr", "loss", "loss_classes", "loss_boxes", "images_per_s", "wait_fraction"}
