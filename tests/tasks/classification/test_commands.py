"""The commands from published weights to a run, and from a run to the next."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import yaml

from datasets.files import CACHE_VARIABLE
from datasets.images.read import write_image
from tasks.common.cli.main import main
from tasks.common.runs.checkpoint import load_checkpoint

PROBE = ("--optim.layers", "linear_probe", "--optim.weight_decay", "1e-7")


@pytest.fixture
def settings(generated_roots: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings for a few generated images."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    root = str(generated_roots("classification"))
    return [
        *("--data.root", root, "--data.format", "stanford_dogs", "--data.input_size", "64"),
        *("--loop.num_workers", "0", "--backbone.name", "mobilenet_1.0"),
    ]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(timm.create_model("mobilenetv1_100").state_dict(), path)
    return path


def run(*arguments: str) -> int:
    return main("classification", arguments)


def test_a_run_no_longer_needs_its_weights_file(
    settings: list[str], published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The conventions of the weights are saved in the run's settings; without them its scores would change."""
    first = str(tmp_path / "first")
    assert run("train", *settings, *PROBE, "--pretrained", str(published), "--run_dir", first) == 0
    assert "conventions of timm: padding symmetric, BN eps 1e-05, ReLU6" in capsys.readouterr().err
    config = yaml.safe_load((tmp_path / "first" / "config.yaml").read_text())
    assert config["backbone"]["conventions"] == "timm"
    published.unlink()
    assert run("evaluate", "--run", first, "--split", "train", "--out", str(tmp_path / "scores"), "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["top1"] > 0.9  # the 32 training images
    written = {path.name for path in (tmp_path / "scores").iterdir()}
    assert written >= {"metrics.json", "per_class.csv", "confusion.png", "predictions.png"}

    image = next(Path(settings[1]).rglob("*.jpg"))
    assert run("predict", "--run", first, str(image), "--out", str(tmp_path / "seen")) == 0
    record = json.loads((tmp_path / "seen" / "predictions.jsonl").read_text())
    assert len(record["classes"]) == 5
    assert record["classes"][0]["probability"] > record["classes"][1]["probability"]

    # another run starts from this one, classifier included
    capsys.readouterr()
    again = [
        "evaluate",
        *settings,
        "--pretrained",
        first,
        "--split",
        "train",
        "--out",
        str(tmp_path / "again"),
    ]
    assert run(*again, "--json") == 0
    assert json.loads(capsys.readouterr().out) == scores


def test_errors_are_one_line_and_leave_no_run(
    settings: list[str],
    published: Path,
    tmp_path: Path,
    error_line_of: Callable[..., str],
) -> None:
    at = ("--run_dir", str(tmp_path / "run"))

    def error(*more: str) -> str:
        line = error_line_of(run, *more)
        assert not (tmp_path / "run").exists()
        return line

    narrow = error("train", *settings, *at, "--pretrained", str(published), "--backbone.name", "mobilenet_0.5")
    assert narrow == f"error: {published}: made for width 1, but the backbone has width 0.5"
    wrong = error("evaluate", *settings, "--pretrained", str(published))
    assert "has 1000 classes, and 0 of the dataset's 16 are among them" in wrong
    nothing = error("evaluate", *settings)
    assert nothing.startswith("error: expected a model: --run with a run folder, or --pretrained with the name")
    assert "no such file" in error("train", *settings, *at, "--pretrained", "kerass")
    published.write_bytes(b"damaged")
    assert "not a readable safetensors file" in error("train", *settings, *at, "--pretrained", str(published))


def test_a_linear_probe_is_neither_resumed_nor_backed_up(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = str(tmp_path / "run")
    small = ("--backbone.name", "mobilenet_0.25")
    assert run("train", *settings, *small, *PROBE, "--run_dir", at) == 0
    for more in (["--resume", at], [*settings, *small, *PROBE, "--run_dir", "new", "--loop.backup", "memory://b/r"]):
        assert run("train", *more) == 1
        assert "nothing to resume" in capsys.readouterr().err


def test_weights_of_a_classifier_detect_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_line_of: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Path("photo.jpg"), np.zeros((40, 40, 3), np.uint8))
    words = ("predict", "--pretrained", str(published), "photo.jpg")
    line = error_line_of(lambda *words: main("detection", words), *words)
    assert f"{published}: has no outputs of tasks.detection; `python -m tasks.detection models` lists" in line


def test_modern_recipe_with_gradual_unfreezing_resumes_exactly(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RandAugment, MixUp, CutMix, label smoothing, one more stage per epoch; resumed after the second epoch."""
    recipe = [
        *("--augment.randaugment_ops", "2", "--augment.mixup_alpha", "0.2", "--augment.cutmix_alpha", "1"),
        *("--label_smoothing", "0.1", "--optim.layers", "gradual", "--optim.unfreeze_epochs", "1"),
        *("--optim.epochs", "3", "--optim.batch_size", "16", "--backbone.name", "mobilenet_0.25"),
    ]
    at = tmp_path / "run"
    assert run("train", *settings, *recipe, "--run_dir", str(at)) == 0
    uninterrupted = load_checkpoint(at / "last.pt")
    (at / "last.pt").unlink()  # the previous one ends with the second epoch
    assert load_checkpoint(at / "previous.pt")["step"] == 4
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # that `last.pt` is missing
        assert run("train", "--resume", str(at)) == 0
    resumed = load_checkpoint(at / "last.pt")
    assert all(torch.equal(value, resumed["model"][name]) for name, value in uninterrupted["model"].items())
    assert "last.pt: no such checkpoint; resuming from" in capsys.readouterr().err
