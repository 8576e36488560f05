"""`python -m distill` from end to end, on a few generated examples."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import yaml
from torch import nn

from datasets.classification.labelled import LabelledImages
from datasets.drawing.draw import GAP_PX, contact_sheet
from datasets.splits import MissingSplitError
from datasets.types import Split
from distill import report
from distill.cli import main
from distill.report import ModelEntry, Row, draw_masks, verdict
from tasks.classification.task import ClassificationTask
from tasks.common.cli import main as cli
from tasks.common.runs.checkpoint import load_checkpoint
from tests.conftest import REPOSITORY
from tests.distill.conftest import SMALL, TINY

Run = Callable[..., int]
# Of the few generated faces, one attribute is the same in all.
pytestmark = pytest.mark.filterwarnings("ignore:.* attributes are the same in all images:UserWarning")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", SMALL)
def test_a_run_of_every_task_can_be_distilled(
    task: str, trained_run: Callable[..., str], distil: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = trained_run(task)
    assert distil(task, "--teacher", teacher, "--views", "2", "--run_dir", "out") == 0
    printed = capsys.readouterr()
    assert "the teacher " in printed.out
    rows = rows_of(Path("out/report.csv"))
    assert [row["model"] for row in rows] == [
        f"mobilenet_0.25, {teacher}",
        "mobilenet_0.25 distilled",
        "mobilenet_0.25 baseline",
    ]
    assert rows[0]["mult_adds"] == rows[1]["mult_adds"] == rows[2]["mult_adds"]
    for picture in ("report.png", "masks.png") if task == "segmentation" else ("report.png",):
        assert cv2.imread(f"out/{picture}") is not None

    capsys.readouterr()
    flags = ["evaluate", "--run", "out/distilled", "--json", "--loop.num_workers", "0"]
    assert cli.main(task, flags) == 0, "the student is a run of its task"
    scores = json.loads(capsys.readouterr().out)
    names = {"attributes": "mean_ap", "classification": "top1", "detection": "AP", "embedding": "auc"}
    name = (names | {"segmentation": "mIoU"}).get(task)
    for key in [name] if name else []:
        assert scores[key] == pytest.approx(float(rows[1][key]), abs=1e-6)


def test_second_run_is_equal_and_runs_no_teacher(
    trained_run: Callable[..., str], distil: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--teacher", trained_run("attributes"), "--views", "2", "--baseline", "false", "--optim.epochs", "3")
    logs = []
    for name in ("first", "second"):
        assert distil("attributes", *flags, "--run_dir", name) == 0
        logs.append([(row["loss"], row.get("mean_ap")) for row in rows_of(Path(name) / "distilled" / "log.csv")])
    assert logs[0] == logs[1]
    assert "the teacher ran on 0 views in 0 s; 72 came from the cache" in capsys.readouterr().err

    assert distil("attributes", *flags, "--views", "null", "--run_dir", "third") == 0
    printed = capsys.readouterr().err
    assert "came from the cache" not in printed
    assert "cached in" not in printed


def test_an_exported_run_is_an_equal_teacher(trained_run: Callable[..., str], distil: Run) -> None:
    run = trained_run("attributes")
    flags = ["export", "--run", run, "--raw", "--out", "exported", "--loop.num_workers", "0"]
    assert cli.main("attributes", flags) == 0
    losses = []
    for teacher in (run, "exported"):
        out = f"from-{Path(teacher).name}"
        assert distil("attributes", "--teacher", teacher, "--views", "2", "--baseline", "false", "--run_dir", out) == 0
        losses.append([float(row["loss"]) for row in rows_of(Path(out) / "distilled" / "log.csv")])
    assert losses[0] == pytest.approx(losses[1], rel=0.02), "but for the student's random weights"
    assert rows_of(Path("from-exported/report.csv"))[0]["mult_adds"] == "", "not a torch network"


def test_images_without_labels_and_a_teacher_of_another_size(
    trained_run: Callable[..., str], distil: Run, generated_roots: Callable[[str], Path], tmp_path: Path
) -> None:
    teacher = trained_run("attributes", "--data.input_size", "64")
    photos = str(generated_roots("attributes") / "img_align_celeba" / "00000*.jpg")
    flags = ("--unlabelled", photos, "--views", "2", "--unlabelled_part", "[0.1, 0.1, 0.9, 0.9]")
    assert distil("attributes", "--teacher", teacher, *flags, "--run_dir", "out") == 0
    rows = rows_of(Path("out/report.csv"))
    assert [row["input_size"] for row in rows] == ["64", "48", "48"]
    distilled, baseline = (rows_of(Path("out") / name / "log.csv") for name in ("distilled", "baseline"))
    assert int(distilled[-1]["step"]) == 1, "nine photos, eight in a batch"
    assert len(baseline) == 1


@pytest.mark.parametrize("task", ["attributes", "detection"])
def test_labels_hints_and_two_teachers(task: str, trained_run: Callable[..., str], distil: Run) -> None:
    teacher = trained_run(task)
    flags = ("--alpha", "0.25", "--hint_stride", "16", "--views", "null", "--baseline", "false", "--run_dir", "out")
    assert distil(task, "--teacher", teacher, teacher, *flags) == 0
    (row,) = rows_of(Path("out/distilled/log.csv"))
    parts = {name: float(row[f"loss_{name}"]) for name in ("teacher", "own", "hint")}
    assert float(row["loss"]) == pytest.approx(0.75 * parts["teacher"] + 0.25 * parts["own"] + parts["hint"], abs=1e-4)
    assert parts["hint"] > 0


def test_resumes_where_it_stopped(trained_run: Callable[..., str], distil: Run) -> None:
    flags = ("--teacher", trained_run("attributes"), "--optim.epochs", "2", "--run_dir")
    assert distil("attributes", *flags, "uninterrupted") == 0
    assert distil("attributes", *flags, "interrupted") == 0
    for name in ("report.csv", "baseline/metrics.json"):  # as if killed in the last epoch of the second training
        (Path("interrupted") / name).unlink()
    Path("interrupted/baseline").rename("interrupted/alone")  # its name in earlier versions
    assert main(["--resume", "interrupted"]) == 0
    assert not Path("interrupted/alone").exists()
    same = ("model", "input_size", "mult_adds", "num_params", "mean_ap")
    uninterrupted, interrupted = (rows_of(Path(name) / "report.csv") for name in ("uninterrupted", "interrupted"))
    expected = [[row[key] for key in same] for row in uninterrupted]
    assert [[row[key] for key in same] for row in interrupted] == expected
    settings = yaml.safe_load(Path("uninterrupted/config.yaml").read_text())
    assert settings["task"] == "attributes"
    assert settings["optim"]["epochs"] == 2


@pytest.fixture
def files() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def test_another_machine_brings_a_distillation_back_and_ends_it(
    trained_run: Callable[..., str], distil: Run, files: Any
) -> None:
    flags = ("--teacher", trained_run("attributes"), "--loop.backup", "memory://bucket/d/", "--run_dir", "run")
    assert distil("attributes", *flags) == 0
    Path("run").rename("first")
    names = {path.removeprefix("/bucket/d/") for path in files.find("/bucket/d")}
    of_runs = {f"{run}/{name}" for run in ("distilled", "baseline") for name in ("last.pt", "best.pt", "metrics.json")}
    assert names >= {"config.yaml", "report.csv", "report.png"} | of_runs
    files.rm("/bucket/d/baseline", recursive=True)  # as if the first machine was lost after the first training
    for name in ("report.csv", "distilled/predictions.png"):  # and the last copy of the first training was
        files.rm(f"/bucket/d/{name}")
    assert distil("attributes", *flags) == 0
    assert Path("run/distilled/log.csv").read_bytes() == Path("first/distilled/log.csv").read_bytes(), "with its times"
    again, first = (rows_of(Path(name) / "report.csv") for name in ("run", "first"))
    assert [row["mean_ap"] for row in again] == [row["mean_ap"] for row in first]
    assert files.cat_file("/bucket/d/report.csv") == Path("run/report.csv").read_bytes()
    assert not files.exists("/bucket/d/distilled/predictions.png"), "which only the first machine has"


def test_errors_are_one_line(
    trained_run: Callable[..., str],
    distil: Run,
    error_line_of: Callable[..., str],
    generated_roots: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    def error_line(task: str, *flags: str) -> str:
        return error_line_of(distil, task, "--run_dir", "out", *flags)

    def command_error_line(*flags: str) -> str:
        return error_line_of(lambda *flags: main(flags), *flags)

    teacher = trained_run("attributes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.onnx").write_text("no network")
    assert "no image or video there" in error_line("attributes", "--teacher", teacher, "--unlabelled", "empty")
    assert "is a teacher for embedding, but the student's task is attributes" in error_line(
        "attributes", "--teacher", "facenet", "--task", "attributes"
    )
    assert "a checkpoint of tasks.attributes, but this is tasks.classification" in error_line(
        "classification", "--teacher", teacher, "--task", "classification"
    )
    assert "weights.pt: no such file" in error_line("embedding", "--teacher", "facenet:weights.pt")
    assert "--task: needed with the teacher bad.onnx" in error_line("embedding", "--teacher", "bad.onnx")
    flags = ("--teacher", "bad.onnx", "--task", "embedding")
    assert "not a network that ONNX Runtime can read" in error_line("embedding", *flags)
    assert "hint_stride: " in error_line("attributes", "--teacher", teacher, "--hint_stride", "3")
    assert "no such folder or file, and not one of facenet" in error_line("attributes", "--teacher", "nobody")
    assert "alpha: expected 0 with --unlabelled" in error_line(
        "attributes", "--teacher", teacher, "--unlabelled", "empty", "--alpha", "0.5"
    )
    assert "optim.layers: " in error_line("attributes", "--teacher", teacher, "--optim.layers", "linear_probe")
    assert "unlabelled_part: " in error_line("attributes", "--teacher", teacher, "--unlabelled_part", "[0,0,1,1]")
    assert "nowhere: not a run folder" in command_error_line("--resume", "nowhere")
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "list.yaml: expected settings" in command_error_line("--config", "list.yaml")
    assert f"--resume: {teacher} is not a distillation" in command_error_line("--resume", teacher)
    ssd = trained_run("detection")
    line = error_line("detection", "--teacher", ssd, "--data.input_size", "128")
    assert "the teacher has 204 anchors and 5 classes, the student 330 anchors and 5 classes; expected the same" in line
    for model in ("faster_rcnn", "faster_rcnn_fpn"):
        at = ("--model", model, "--data.input_size", "96")
        assert f"model: expected ssd, but the student is {model}" in error_line("detection", "--teacher", ssd, *at)
    assert not Path("out").exists(), "an error leaves no folder"
    assert "data.root: with --unlabelled" in command_error_line("--teacher", teacher, "--unlabelled", "empty")


def test_an_error_of_the_baseline_is_reported_before_any_training(
    trained_run: Callable[..., str], distil: Run, error_line_of: Callable[..., str], tmp_path: Path
) -> None:
    """Only with `--unlabelled` may labelled training images be missing; only the baseline reads the cells."""
    flags = ("--teacher", trained_run("geolocation"), "--cells.file", "nowhere.csv", "--run_dir", "out")
    assert "nowhere.csv" in error_line_of(distil, "geolocation", *flags)
    assert not Path("out").exists()


@pytest.mark.filterwarnings("default")
def test_all_images_unreadable_is_an_error(
    trained_run: Callable[..., str], distil: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    for index in range(9):
        (tmp_path / "broken" / f"{index}.jpg").write_bytes(b"no image")
    teacher = trained_run("attributes")
    capsys.readouterr()
    assert distil("attributes", "--teacher", teacher, "--unlabelled", "broken", "--run_dir", "out") == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert "of 9 images are unreadable, more than the fraction" in line


def test_unlabelled_faces_need_no_identities_and_a_shorter_embedding_is_rotated(
    trained_run: Callable[..., str],
    distil: Run,
    generated_roots: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher = trained_run("embedding")
    persons = str(generated_roots("embedding") / "train")
    flags = ("--data.root", persons, "--data.val_fraction", "1", "--unlabelled", persons, "--run_dir", "out")
    flags += ("--embedding_dim", "16", "--optim.ema_decay", "0.9")
    assert distil("embedding", "--teacher", teacher, *flags) == 0
    printed = capsys.readouterr().err
    assert f"no baseline: cannot read labelled training images: {persons}: there are no images for train" in printed
    assert len(rows_of(Path("out/report.csv"))) == 2
    assert np.isfinite(float(rows_of(Path("out/report.csv"))[1]["auc"]))
    student = load_checkpoint(Path("out/distilled/best.pt"))["model"]
    assert student["head.projection.0.weight"].shape[0] == 16
    trained = load_checkpoint(Path("out/distilled/last.pt"))["model"]
    assert {f"network.{name}" for name in student} < trained.keys(), "best.pt lacks the rotation"


def test_two_processes_distil_the_student_of_one(
    trained_run: Callable[..., str],
    distil: Run,
    data_flags: Callable[[str], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--teacher", trained_run("attributes"), "--views", "1", "--run_dir"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "distill"]
    command += [*data_flags("attributes"), *TINY, "--student", "mobilenet_0.25", *flags, str(Path("two").resolve())]
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=REPOSITORY, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(Path("two/report.csv"))) == 3
    assert "ran on 12 views" in done.stderr, "each process runs the teacher on its half"
    capsys.readouterr()
    assert distil("attributes", *flags, "one") == 0
    assert "ran on 0 views" in capsys.readouterr().err, "both have filled the cache"
    losses = [float(rows_of(Path(name) / "distilled" / "log.csv")[0]["loss"]) for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3), "but for rounding, which three steps magnify"


def test_verdict_compares_with_the_best_of_several_teachers() -> None:
    scores = (0.9, 0.6, 0.7, 0.8)  # two teachers, the student, the baseline
    rows = [Row(f"model {score}", 64, None, None, 1.0, {"auc": score}) for score in scores]
    assert "; the teacher scores 0.900;" in verdict(rows, "auc")
    assert "the teacher itself scores 0.600" in verdict(rows[1:], "auc")


@pytest.mark.parametrize("title", ["mobilenet_1, runs/segmentation/x/", "mobilenet_1, runs/segmentation/x", "x"])
def test_a_models_label_is_the_folder_of_its_run(title: str) -> None:
    task: Any = None
    assert ModelEntry(title, task, nn.Identity(), {}).label == "x"


def test_masks_of_large_images_are_kept_as_tiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row of the sheet's 1440 pixels for each of the two images: the truth, and a model's mask."""
    image, kept = np.zeros((1500, 3000, 3), np.uint8), []
    source = [SimpleNamespace(image=image, truth="truth")] * 2
    student: Any = SimpleNamespace(source=lambda _: source, draw=lambda image, _: image)
    task: Any = SimpleNamespace(preprocessing=lambda: lambda image: image)
    monkeypatch.setattr(report, "TorchPredictor", lambda *_: lambda images: ["mask"])
    monkeypatch.setattr(
        report, "contact_sheet", lambda tiles, columns: kept.extend(tiles) or contact_sheet(tiles, columns)
    )
    draw_masks(student, [ModelEntry("runs/x", task, nn.Identity(), {})], tmp_path / "masks.png")
    assert [tile.shape[1] for tile in kept] == [1440 // 2 - GAP_PX] * 4
    assert cv2.imread(str(tmp_path / "masks.png")).shape[1] == 1440


def test_without_validation_images_there_is_no_comparison(
    trained_run: Callable[..., str], distil: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, source = trained_run("classification"), ClassificationTask.source

    def source_without_val(self: ClassificationTask, split: Split) -> LabelledImages:
        if split == "val":
            raise MissingSplitError("there are no images for val")
        return source(self, split)

    monkeypatch.setattr(ClassificationTask, "source", source_without_val)
    capsys.readouterr()
    words = ("--teacher", teacher, "--run_dir", "out")
    assert distil("classification", *words) == 1
    assert not Path("out").exists()
    assert distil("classification", *words, "--data.val_fraction", "null") == 0
    assert "no images are held out, so there are no scores" in capsys.readouterr().err.splitlines()[-1]
    assert Path("out/distilled/best.pt").is_file()
    assert not Path("out/baseline").exists()
    assert not Path("out/report.csv").exists()


def test_balance_needs_the_classes_of_the_images(
    trained_run: Callable[..., str], distil: Run, error_line_of: Callable[..., str]
) -> None:
    words = ("--teacher", trained_run("classification"), "--optim.balance", "0.5", "--run_dir", "out")
    assert "optim.balance: " in error_line_of(distil, "classification", *words, "--unlabelled", "photos")
    assert distil("classification", *words) == 0
