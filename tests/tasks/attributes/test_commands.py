"""The commands from training to prediction, on generated and on real faces."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbone.weights import Weights
from datasets.files import CACHE_VARIABLE
from datasets.sample.faces import ATTRIBUTES
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask
from tasks.common.cli.main import main


@pytest.fixture
def settings(generated_roots: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    root = str(generated_roots("attributes"))
    small = ("--data.root", root, "--data.input_size", "64", "--loop.num_workers", "0")
    return [*small, "--backbone.name", "mobilenet_0.25"]


def run(*arguments: str) -> int:
    return main("attributes", arguments)


@pytest.mark.filterwarnings("default:.*the same in all images")  # no hat in 24 faces
def test_train_evaluate_predict(settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = str(tmp_path / "run")
    assert (
        run("train", *settings, "--optim.layers", "linear_probe", "--optim.weight_decay", "1e-6", "--run_dir", at) == 0
    )
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    assert metadata["attribute_names"] == list(ATTRIBUTES)
    capsys.readouterr()
    assert run("evaluate", "--run", at, "--split", "train", "--json", "--out", str(tmp_path / "scores")) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["mean_ap"] > 0.8  # a head with 2,570 parameters overfits 24 images
    assert scores["chance_mean_ap"] < 0.4
    written = {path.name for path in (tmp_path / "scores").iterdir()}
    assert written >= {"metrics.json", "per_attribute.csv", "average_precision.png", "predictions.png"}

    image = str(Path(settings[1]) / "img_align_celeba" / "000001.jpg")
    assert run("predict", "--run", at, image, "--out", str(tmp_path / "seen")) == 0
    record = json.loads((tmp_path / "seen" / "predictions.jsonl").read_text())
    assert list(record["attributes"]) == list(ATTRIBUTES)
    assert all(0 <= value <= 1 for value in record["attributes"].values())


def test_errors_are_one_line_and_leave_no_run(
    settings: list[str], tmp_path: Path, error_line_of: Callable[..., str]
) -> None:
    def error(*more: str) -> str:
        line = error_line_of(run, *more)
        assert not (tmp_path / "run").exists()
        return line

    at = ("--run_dir", str(tmp_path / "run"))
    assert "pos_weight_exponent: expected a number of 0 or more and at most 1, got 2.0" in error(
        "train", *settings, *at, "--pos_weight_exponent", "2"
    )
    assert "balance is now pos_weight_exponent" in error("train", *settings, *at, "--balance", "1")
    assert "data.validate_on is no longer a setting: evaluate --split test scores the test part" in error(
        "train", *settings, *at, "--data.validate_on", "test"
    )
    assert (
        "data.align: yunet.onnx: no such file; expected YuNet's ONNX file, or the name yunet or yunet_2023mar"
        in error("train", *settings, *at, "--data.align", "yunet.onnx")
    )
    part = error("train", *settings, *at, "--data.face_part", "[0,0,0,1]")
    assert "data.face_part: expected x0, y0, x1, y1 with 0 <= x0 < x1 <= 1" in part
    assert "there is no folder" in error("train", "--data.root", str(tmp_path / "nowhere"), *at)
    with pytest.raises(ValueError, match=r"weights\.h5: has no outputs of tasks\.attributes; `python -m tasks\.attr"):
        AttributesTask.from_pretrained(AttributesConfig(), Weights({}, "keras", "weights.h5"))


@pytest.mark.filterwarnings("default::UserWarning")
def test_attributes_are_scored_by_name(settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = str(tmp_path / "run")
    assert run("train", *settings, "--optim.layers", "linear_probe", "--run_dir", at) == 0
    other = tmp_path / "other"
    (other / "img_align_celeba").mkdir(parents=True)
    source = Path(settings[1])
    (other / "img_align_celeba" / "000001.jpg").write_bytes((source / "img_align_celeba" / "000001.jpg").read_bytes())
    (other / "img_align_celeba" / "000002.jpg").write_bytes((source / "img_align_celeba" / "000002.jpg").read_bytes())
    (other / "list_attr_celeba.txt").write_text("2\nHungry\n000001.jpg 1\n000002.jpg -1\n")
    (other / "list_eval_partition.txt").write_text("000001.jpg 1\n000002.jpg 1\n")
    capsys.readouterr()
    assert run("evaluate", "--run", at, "--data.root", str(other)) == 1
    assert "the data have 1 attribute (Hungry, ...), and the model knows none of them: it has 10 (Bangs, " in (
        capsys.readouterr().err
    )

    (other / "list_attr_celeba.txt").write_text("2\nHungry Bangs\n000001.jpg 1 -1\n000002.jpg -1 1\n")
    assert run("evaluate", "--run", at, "--data.root", str(other), "--out", str(tmp_path / "scores")) == 0
    assert "scored on 1 attribute (Bangs), which the data (2) and the model (10) share" in capsys.readouterr().err
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    with (tmp_path / "scores" / "per_attribute.csv").open() as file:
        (bangs,) = [row for row in csv.DictReader(file) if row["attribute"] == "Bangs"]
    assert scores["mean_ap"] == pytest.approx(float(bangs["ap"])), "of the shared attribute alone"
    assert scores["chance_mean_ap"] == 0.5


@pytest.mark.data
def test_linear_probe_on_fairface_matches_the_reference(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.531 at width 0.25 by scikit-learn's logistic regression on the pooled features, as issue 6 states."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    weights = str(shared / "weights" / "mobilenet_2_5_224_tf.h5")
    data = ("--data.root", str(shared / "data" / "fairface"), "--data.input_size", "128")
    probe = ("--optim.layers", "linear_probe", "--optim.weight_decay", "0.01", "--pos_weight_exponent", "0")
    arguments = (*data, *probe, "--backbone.name", "mobilenet_0.25", "--pretrained", weights)
    assert run("train", *arguments, "--run_dir", str(tmp_path / "run")) == 0
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert scores["mean_ap"] == pytest.approx(0.531, abs=0.02)
    assert scores["chance_mean_ap"] == pytest.approx(0.257, abs=1e-3)
    assert run("evaluate", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "scores")) == 0
    with (tmp_path / "scores" / "per_attribute.csv").open() as file:
        assert all(float(row["ap"]) > 1.2 * float(row["prevalence"]) for row in csv.DictReader(file))
