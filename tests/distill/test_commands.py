"""`python -m distill` from end to end, on a few drawn examples."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from distill.cli import main
from tasks.common.cli import main as cli
from tasks.common.runs.checkpoint import load_checkpoint
from tasks.registry import TASKS
from tests.conftest import REPOSITORY
from tests.distill.conftest import TINY

Run = Callable[..., int]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_every_task_can_teach(
    task: str, trained_run: Callable[..., str], distil: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = trained_run(task)
    assert distil(task, "--teacher", teacher, "--views", "2", "--run_dir", "out") == 0
    printed = capsys.readouterr()
    assert "the teacher " in printed.out
    rows = rows_of(Path("out/report.csv"))
    assert [row["who"] for row in rows] == [
        f"mobilenet_0.25, {teacher}",
        "mobilenet_0.25 distilled",
        "mobilenet_0.25 alone",
    ]
    assert rows[0]["mult_adds"] == rows[1]["mult_adds"] == rows[2]["mult_adds"]
    assert cv2.imread("out/report.png") is not None

    capsys.readouterr()
    words = ["evaluate", "--run", "out/distilled", "--json", "--loop.num_workers", "0"]
    assert cli.main(task, words) == 0, "the student is a run of its task"
    scores = json.loads(capsys.readouterr().out)
    name = {"attributes": "mean_ap", "classification": "top1", "detection": "AP", "embedding": "auc"}.get(task)
    for key in [name] if name else []:
        assert scores[key] == pytest.approx(float(rows[1][key]), abs=1e-6)


def test_second_run_learns_the_same_and_asks_nobody(
    trained_run: Callable[..., str], distil: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--teacher", trained_run("attributes"), "--views", "2", "--alone", "false", "--optim.epochs", "3")
    logs = []
    for name in ("first", "second"):
        assert distil("attributes", *words, "--run_dir", name) == 0
        logs.append([(row["loss"], row.get("mean_ap")) for row in rows_of(Path(name) / "distilled" / "log.csv")])
    assert logs[0] == logs[1]
    assert "asked about 0 views in 0 s; 72 answers were there already" in capsys.readouterr().err

    assert distil("attributes", *words, "--views", "null", "--run_dir", "third") == 0
    printed = capsys.readouterr().err
    assert "were there already" not in printed
    assert "are kept in" not in printed


def test_an_exported_run_teaches_the_same(trained_run: Callable[..., str], distil: Run) -> None:
    run = trained_run("attributes")
    words = ["export", "--run", run, "--out", "exported", "--loop.num_workers", "0"]
    assert cli.main("attributes", words) == 0
    losses = []
    for teacher in (run, "exported"):
        out = f"taught-by-{Path(teacher).name}"
        assert distil("attributes", "--teacher", teacher, "--views", "2", "--alone", "false", "--run_dir", out) == 0
        losses.append([float(row["loss"]) for row in rows_of(Path(out) / "distilled" / "log.csv")])
    assert losses[0] == pytest.approx(losses[1], rel=0.02), "but for the student's random weights"
    assert rows_of(Path("taught-by-exported/report.csv"))[0]["mult_adds"] == "", "it is no network of torch"


def test_images_without_labels_and_a_teacher_of_another_size(
    trained_run: Callable[..., str], distil: Run, drawn_roots: Callable[[str], Path], tmp_path: Path
) -> None:
    teacher = trained_run("attributes", "--data.input_size", "64")
    photos = str(drawn_roots("attributes") / "img_align_celeba" / "00000*.jpg")
    words = ("--unlabelled", photos, "--views", "2", "--unlabelled_part", "[0.1, 0.1, 0.9, 0.9]")
    assert distil("attributes", "--teacher", teacher, *words, "--run_dir", "out") == 0
    rows = rows_of(Path("out/report.csv"))
    assert [row["input_size"] for row in rows] == ["64", "48", "48"]
    taught, alone = (rows_of(Path("out") / name / "log.csv") for name in ("distilled", "alone"))
    assert int(taught[-1]["step"]) == 1, "nine photos, eight in a batch"
    assert len(alone) == 1


@pytest.mark.parametrize("task", ["attributes", "detection"])
def test_labels_hints_and_two_teachers(task: str, trained_run: Callable[..., str], distil: Run) -> None:
    teacher = trained_run(task)
    words = ("--alpha", "0.25", "--hint_stride", "16", "--views", "null", "--alone", "false", "--run_dir", "out")
    assert distil(task, "--teacher", teacher, teacher, *words) == 0
    (row,) = rows_of(Path("out/distilled/log.csv"))
    parts = {name: float(row[f"loss_{name}"]) for name in ("teacher", "own", "hint")}
    assert float(row["loss"]) == pytest.approx(0.75 * parts["teacher"] + 0.25 * parts["own"] + parts["hint"], abs=1e-4)
    assert parts["hint"] > 0


def test_goes_on_where_it_was_stopped(trained_run: Callable[..., str], distil: Run) -> None:
    words = ("--teacher", trained_run("attributes"), "--optim.epochs", "2", "--run_dir")
    assert distil("attributes", *words, "whole") == 0
    assert distil("attributes", *words, "broken") == 0
    for name in ("report.csv", "alone/metrics.json"):  # as if killed in the last epoch of the second training
        (Path("broken") / name).unlink()
    assert main(["--resume", "broken"]) == 0
    same = ("who", "input_size", "mult_adds", "num_params", "mean_ap")
    whole, broken = (rows_of(Path(name) / "report.csv") for name in ("whole", "broken"))
    assert [[row[key] for key in same] for row in whole] == [[row[key] for key in same] for row in broken]
    settings = yaml.safe_load(Path("whole/config.yaml").read_text())
    assert settings["task"] == "attributes"
    assert settings["optim"]["epochs"] == 2


def test_mistakes_are_one_line(
    trained_run: Callable[..., str],
    distil: Run,
    error_line_of: Callable[..., str],
    drawn_roots: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    def error_line(task: str, *words: str) -> str:
        return error_line_of(distil, task, "--run_dir", "out", *words)

    def command_error_line(*words: str) -> str:
        return error_line_of(lambda *all_words: main(all_words), *words)

    teacher = trained_run("attributes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.onnx").write_text("no network")
    assert "no image or video there" in error_line("attributes", "--teacher", teacher, "--unlabelled", "empty")
    assert "teaches embedding, but the student is of attributes" in error_line(
        "attributes", "--teacher", "facenet", "--task", "attributes"
    )
    assert "a checkpoint of tasks.attributes, but this is tasks.classification" in error_line(
        "classification", "--teacher", teacher, "--task", "classification"
    )
    assert "weights.pt: there is no such file" in error_line("embedding", "--teacher", "facenet:weights.pt")
    assert "--task: say what bad.onnx teaches" in error_line("embedding", "--teacher", "bad.onnx")
    words = ("--teacher", "bad.onnx", "--task", "embedding")
    assert "not a network that ONNX Runtime can read" in error_line("embedding", *words)
    assert "hint_stride: " in error_line("attributes", "--teacher", teacher, "--hint_stride", "3")
    assert "no such folder, and not one of facenet" in error_line("attributes", "--teacher", "nobody")
    assert "alpha: expected 0 with --unlabelled" in error_line(
        "attributes", "--teacher", teacher, "--unlabelled", "empty", "--alpha", "0.5"
    )
    assert "optim.layers: " in error_line("attributes", "--teacher", teacher, "--optim.layers", "linear_probe")
    assert "unlabelled_part: " in error_line("attributes", "--teacher", teacher, "--unlabelled_part", "[0,0,1,1]")
    assert "nowhere: not a run folder" in command_error_line("--resume", "nowhere")
    assert f"--resume: {teacher} is no distillation" in command_error_line("--resume", teacher)
    ssd = trained_run("detection")
    line = error_line("detection", "--teacher", ssd, "--data.input_size", "128")
    assert "anchors and classes, the student" in line
    assert "model: expected ssd" in error_line("detection", "--teacher", ssd, "--model", "faster_rcnn")
    assert not Path("out").exists(), "nothing is left of a mistake"
    assert "data.root: with --unlabelled" in command_error_line("--teacher", teacher, "--unlabelled", "empty")


@pytest.mark.filterwarnings("default")
def test_images_that_are_all_unreadable_are_named(
    trained_run: Callable[..., str], distil: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    for number in range(9):
        (tmp_path / "broken" / f"{number}.jpg").write_bytes(b"no image")
    teacher = trained_run("attributes")
    capsys.readouterr()
    assert distil("attributes", "--teacher", teacher, "--unlabelled", "broken", "--run_dir", "out") == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert "of 9 images are unreadable, more than the share" in line


def test_faces_without_a_label_need_no_persons_and_a_shorter_embedding_is_turned(
    trained_run: Callable[..., str], distil: Run, drawn_roots: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = trained_run("embedding")
    persons = str(drawn_roots("embedding") / "train")
    words = ("--data.root", persons, "--data.val_fraction", "1", "--unlabelled", persons, "--run_dir", "out")
    words += ("--embedding_dim", "16", "--optim.ema_decay", "0.9")
    assert distil("embedding", "--teacher", teacher, *words) == 0
    assert "the student is not trained alone, for want of labels" in capsys.readouterr().err
    assert len(rows_of(Path("out/report.csv"))) == 2
    assert np.isfinite(float(rows_of(Path("out/report.csv"))[1]["auc"]))
    student = load_checkpoint(Path("out/distilled/best.pt"))["model"]
    assert student["head.projection.0.weight"].shape[0] == 16
    trained = load_checkpoint(Path("out/distilled/last.pt"))["model"]
    assert {f"network.{name}" for name in student} < trained.keys(), "the rotation is not kept"


def test_two_processes_teach_one_student(
    trained_run: Callable[..., str], data_words: Callable[[str], list[str]], tmp_path: Path
) -> None:
    words = ["--teacher", trained_run("attributes"), *data_words("attributes"), *TINY, "--views", "1"]
    for name, expected in (("first", "asked about 12 views"), ("second", "asked about 0 views")):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += ["-m", "distill", *words, "--student", "mobilenet_0.25", "--run_dir", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=REPOSITORY, timeout=300)
        assert done.returncode == 0, done.stderr
        assert len(rows_of(tmp_path / name / "report.csv")) == 3
        assert expected in done.stderr, "each process asks about its half, and both keep their answers"
    losses = [rows_of(tmp_path / name / "distilled" / "log.csv")[0]["loss"] for name in ("first", "second")]
    assert losses[0] == losses[1]
