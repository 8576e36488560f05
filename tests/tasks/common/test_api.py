"""`tasks.load` finds the task by itself and predicts what the commands do; `tasks.train` is the command."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.images.read import write_image
from tasks import Callback, Run, load, train
from tasks.common.cli.main import main
from tasks.common.runtime.repository import ROOT, child_environment
from tasks.registry import TASKS
from tests.tasks.common.runs import EPOCHS, read_log

TINY = {
    **{"data.input_size": 64, "backbone.name": "mobilenet_0.25", "optim.epochs": 2, "optim.batch_size": 4},
    **{"loop.num_workers": 0},
}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_image(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    return tmp_path / "photo.png"


def as_predicted(run: Path, photo: Path, out: Path) -> dict[str, Any]:
    """The record that the command writes."""
    assert main("detection", ["predict", "--run", str(run), str(photo), "--threshold", "0", "--out", str(out)]) == 0
    record: dict[str, Any] = json.loads((out / "predictions.jsonl").read_text())
    return record


def test_import_is_light() -> None:
    code = "import sys, tasks; print(*({'torch', 'numpy', 'cv2', 'jsonargparse'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []


def test_run_is_loaded_and_predicts_what_the_command_writes(unbroken: Path, photo: Path, tmp_path: Path) -> None:
    model: Any = load(unbroken, settings={"threshold": 0})
    assert (model.task.name, model.predictor.network.training) == ("detection", False)
    record = model(photo).to_dict()
    assert record["detections"]
    assert record == as_predicted(unbroken, photo, tmp_path / "out")


def test_export_is_loaded_by_its_folder_or_its_file(unbroken: Path, photo: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    assert main("detection", ["export", "--run", str(unbroken), "--out", str(export)]) == 0
    alone = tmp_path / "alone.onnx"
    shutil.copy(export / "model.onnx", alone)
    with pytest.raises(ValueError, match=r"alone\.onnx: was written by `export`; expected its folder, with a config"):
        load(alone)
    records = [load(path, settings={"threshold": 0})(photo).to_dict() for path in (export, export / "model.onnx")]
    assert records[0] == records[1] == as_predicted(export, photo, tmp_path / "out")
    exported = load(export)
    with ThreadPoolExecutor(3) as executor:
        together = [result.to_dict() for result in executor.map(exported, [photo] * 6)]
    assert together == [exported(photo).to_dict()] * 6


def test_model_is_scored_like_by_the_command(unbroken: Path, generated_root: Path, tmp_path: Path) -> None:
    run, export = tmp_path / "run", tmp_path / "export"
    shutil.copytree(unbroken, run)
    assert main("detection", ["export", "--run", str(run), "--out", str(export)]) == 0
    for folder in (run, export):
        out = tmp_path / f"{folder.name}-scores"
        assert main("detection", ["evaluate", "--run", str(folder), "--split", "train", "--out", str(out)]) == 0
        expected = json.loads((out / "metrics.json").read_text())
        before = sorted(folder.iterdir())
        scores = load(folder).evaluate(split="train")
        assert scores == {name: value for name, value in expected.items() if name != "threshold"}
        assert sorted(folder.iterdir()) == before
    scores = Run(run).evaluate()
    assert scores.items() <= Run(run).scores.items()
    half = tmp_path / "half"  # other data: the same, without some of the images
    shutil.copytree(generated_root, half)
    annotations = half / "annotations" / "instances_val2017.json"
    content = json.loads(annotations.read_text())
    left = {image["id"] for image in content["images"][::2]}
    for key, name in (("images", "id"), ("annotations", "image_id")):
        content[key] = [entry for entry in content[key] if entry[name] in left]
    annotations.write_text(json.dumps(content))
    model = load(run)
    assert model.evaluate(data=half)["num_images"] == len(left) < scores["num_images"]
    assert model.evaluate() == scores
    with pytest.raises(ValueError, match=r"data\.root: there is no folder missing"):
        model.evaluate(data="missing")
    with pytest.raises(ValueError, match="split: expected train, val, test, got 'validation'"):
        model.evaluate(split="validation")  # type: ignore[arg-type]


def test_threshold_by_a_rule_is_looked_up_in_the_run(unbroken: Path, photo: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    model = load(run)
    scores = [found["score"] for found in model(photo, threshold=0).to_dict()["detections"]]
    low, high = min(scores), (min(scores) + max(scores)) / 2
    rows = [f"all,{threshold},{3 - row},{row},4" for row, threshold in enumerate((low, high))]
    text = "\n".join(["class,threshold,true_positives,false_positives,objects", *rows])
    (run / "thresholds.csv").write_text(text)
    every, some = (model(photo, threshold=number).to_dict()["detections"] for number in (low, high))
    assert len(every) > len(some) > 0
    assert model(photo, threshold="recall=0.7").to_dict()["detections"] == every
    assert model(photo, threshold="recall=0.5").to_dict()["detections"] == some
    assert next(model.stream(photo, threshold="f1")).to_dict()["detections"] == every
    with pytest.raises(ValueError, match=r"recall=0\.9 is not reached in"):
        model(photo, threshold="recall=0.9")


def test_loading_needs_no_data_and_changes_no_global_state(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("best.pt", "config.yaml"):
        shutil.copy(unbroken / name, run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("  root: /", "  root: /missing/"))
    assert "/missing/" in (run / "config.yaml").read_text()
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_float32_matmul_precision()
    monkeypatch.setattr("tasks.common.runtime.device.keep_freed_memory", lambda: pytest.fail("changed the allocator"))
    assert load(run).class_names == load(unbroken).class_names != ()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before[1:]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        ("kers", None, r"kers: there is no such file, run folder or published model; did you mean keras\?"),
        ("runs/missing", None, "runs/missing: there is no such file, run folder or published model"),
        ("empty", None, "empty: not a run folder: it has no config.yaml"),
        ("keras", "detector", r"there is no task detector; did you mean detection\?; the tasks are attributes,"),
        ("notes.txt", None, r"notes\.txt: not a readable file of weights"),
        ("log.csv", None, r"log\.csv: not a readable file of weights"),
        ("other.onnx", None, r"other\.onnx: not a network that ONNX Runtime can read"),
    ],
)
def test_what_is_no_model_is_refused_in_a_line(
    model: str, task: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("notes.txt", "other.onnx"):
        Path(name).write_text("no weights")
    Path("log.csv").write_text("epoch,loss\n1,0.5\n")
    with pytest.raises(ValueError, match=message) as raised:
        load(model, task)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nms_iuo": 0.5}, r"unknown setting nms_iuo; did you mean nms_iou\?"),
        ({"nms_iou": 2}, "nms_iou: expected a number over 0 and at most 1, got 2"),
        ({"optim.lr": 0.1}, "optim.lr: cannot be set in predict"),
        ({"out": "folder"}, "unknown setting out"),
    ],
)
def test_wrong_settings_are_refused_in_the_words_of_the_command_line(
    unbroken: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(unbroken, settings=settings)


def test_run_of_another_task_is_refused(unbroken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"a model of tasks\.detection, not of tasks\.classification"):
        load(unbroken, task="classification")
    assert load(unbroken, task="detection").task.name == "detection"
    with pytest.raises(SystemExit):
        main("classification", ["predict", "--run", str(unbroken), "photo.jpg"])
    assert "is it a run of another task?" in capsys.readouterr().err


def test_training_is_that_of_the_command(generated_root: Path, tmp_path: Path, photo: Path) -> None:
    rows: list[Any] = []

    class Rows(Callback):
        def on_epoch(self, row: Mapping[str, Any]) -> None:
            rows.append(row)

    run = train("detection", data=generated_root, run_dir=tmp_path / "run", settings=TINY, callbacks=[Rows()])
    words = [f"--{key}={value}" for key, value in (TINY | {"data.root": generated_root}).items()]
    assert main("detection", ["train", *words, "--run_dir", str(tmp_path / "command")]) == 0
    same = Run(tmp_path / "command")
    assert run.path == tmp_path / "run"
    assert run.scores == same.scores
    assert [row["loss"] for row in run.history] == [row["loss"] for row in same.history]
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in run.history] == [1, 2]
    assert run.load()(photo).to_dict() == load(same.path)(photo).to_dict()


def test_run_has_the_scores_and_the_log_of_its_folder(unbroken: Path) -> None:
    run = Run(unbroken)
    assert run.scores == json.loads((unbroken / "metrics.json").read_text())
    assert len(run.history) == EPOCHS
    for row, text in zip(run.history, read_log(unbroken), strict=True):
        assert row == {key: float(value) if value else None for key, value in text.items()}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_the_recipe_finetune(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes: list[str] = []
    monkeypatch.setattr("tasks.api._read", lambda _task, _verb, words: recipes.append(words[-1]) or exit_early())
    with pytest.raises(InterruptedError):
        train(task, recipe="finetune")
    assert Path(recipes[0]).parent == ROOT / "configs" / task
    assert Path(recipes[0]).is_file()


def exit_early() -> None:
    raise InterruptedError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "detect"}, r"there is no task detect; did you mean detection\?"),
        ({"recipe": "finetuned"}, r"recipe: there is no finetuned; expected a YAML file, finetune, or one of .*sample"),
        ({"settings": {"optim.epoch": 1}}, r"unknown setting optim.epoch; did you mean optim.epochs\?"),
        ({"settings": {"optim.lr": -1}}, "optim.lr: expected a number over 0, got -1.0$"),
        ({"data": "missing"}, "data.root: there is no folder missing"),
        ({"resume": "missing"}, "missing: not a run folder"),
    ],
)
def test_wrong_arguments_of_a_training_are_refused_in_a_line(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        train(**({"task": "detection"} | arguments))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.data
def test_published_imagenet_weights_are_loaded_by_their_file(shared: Path) -> None:
    file = next((shared / "weights").rglob("mobilenet_1_0_224_tf.h5"))
    model = load(file)
    assert (model.task.name, len(model.class_names)) == ("classification", 1000)
    assert load(file, task="embedding").task.name == "embedding"


@pytest.mark.data
def test_published_models_of_tasks_are_loaded_by_their_file(shared: Path) -> None:
    folder = shared / "weights" / "tasks"
    assert load(folder / "ssd_mobilenet_v2_coco_2018_03_29.pb").task.name == "detection"
    faces = folder / "faceres_mobilenet_v1_224.npz"
    with pytest.raises(ValueError, match="solves the tasks attributes and embedding; say which one, as in task='attr"):
        load(faces)
    for task in ("attributes", "embedding"):
        assert load(faces, task).task.name == task
