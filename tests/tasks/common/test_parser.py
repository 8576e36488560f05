"""Mistakes in words and YAML: one line with the key, what was expected, and the nearest right name."""

import subprocess
import sys
from pathlib import Path

import pytest

import datasets
from tasks.common.cli import main as cli
from tasks.common.cli.parser import Arguments, parse_arguments
from tasks.detection.config import DetectionConfig
from tasks.registry import TASKS

SAMPLE = Path(__file__).resolve().parents[3] / "configs" / "detection" / "sample.yaml"


def parse(*words: str) -> Arguments:
    return parse_arguments("detection", DetectionConfig, SAMPLE, words)


def error_line(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parse(*words)
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_defaults_then_yaml_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("optim: {lr: 0.5, epochs: 7}\n")
    second = tmp_path / "b.yaml"
    second.write_text("optim: {batch_size: 4}\n")
    files, flags = ["--config", str(file), f"--config={second}"], ["--optim.epochs", "9"]
    for words in ([*files, *flags], [*flags, *files]):  # whatever the order
        optim = parse("cost", *words).config.optim
        assert (optim.lr, optim.epochs, optim.batch_size, optim.momentum) == (0.5, 9, 4, 0.9)


def test_training_without_config_and_data_takes_the_sample(tmp_path: Path) -> None:
    assert parse("train").config.backbone.name == "mobilenet_0.25"
    assert parse("train", "--optim.lr", "1").config.data.input_size == 192
    own = parse("train", "--data.root", str(tmp_path)).config
    assert own == DetectionConfig(data=type(own.data)(root=str(tmp_path)))


def test_a_model_may_have_a_sample_recipe_of_its_own() -> None:
    own, recipe = parse("train", "--model", "faster_rcnn").config, SAMPLE.with_name("faster_rcnn_sample.yaml")
    assert own == parse("train", "--config", str(recipe)).config
    assert own.optim != parse("train").config.optim
    assert parse("train", "--model", "ssd").config == parse("train").config


def test_a_switch_may_stand_alone() -> None:
    for words, expected in (((), True), (("true",), True), (("false",), False)):
        config = parse("train", "--optim.freeze_bn", *words, "--optim.epochs", "3").config
        assert (config.optim.freeze_bn, config.optim.epochs) == (expected, 3)
    predict = parse("predict", "--backbone.pretrained", "keras", "--optim.freeze_bn", "photo.jpg")
    assert predict.options["inputs"] == ["photo.jpg"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("train", "--optim.lrr", "1"), ("unknown setting optim.lrr", "did you mean optim.lr?")),
        (("train", "--optim.lr", "fast"), ("optim.lr", "float", "fast")),
        (("train", "--optim.name", "adam"), ("optim.name", "adamw", "adam")),
        (("train", "--optim.epochs", "0"), ("optim.epochs: expected a number of 1 or more, got 0;",)),
        (("train", "--optim.lr", "0"), ("optim.lr: expected a number over 0, got 0.0;",)),
        (("train", "--optim.clip_norm", "-1"), ("optim.clip_norm: expected a number over 0, or null, got -1.0;",)),
        (
            ("train", "--faster_rcnn.anchor_scales", "[0.1,1.5]"),
            ("faster_rcnn.anchor_scales: expected numbers over 0 and at most 1, got (0.1, 1.5);",),
        ),
        (("train", "--backbone.name", "resnet50"), ("backbone.name", "mobilenet_<width>")),
        (("train", "--backbone.name", "mobilenet_0.5_160"), ("data.input_size", "160", "192")),
        (("train", "--config", "none.yaml"), ("none.yaml", "not exist")),
        (("train", "--resume", "nowhere"), ("nowhere", "not a run folder")),
        (("evaluate",), ("run",)),
        (("predict", "--run", "nowhere", "a.jpg"), ("nowhere", "not a run folder")),
        (("tran",), ("tran", "train")),
        ((), ("verb",)),
    ],
)
def test_mistakes_on_the_command_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    line = error_line(capsys, *words)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("optim: {lrr: 3}", ("optim.lrr", "did you mean optim.lr?")),
        ("sed: 3", ("sed", "did you mean seed?")),
        ("optim: {lr: fast}", ("optim.lr", "float", "fast")),
        ("optim: 3", ("optim", "group of settings", "3")),
        ("optim: [", ("config",)),
        ("seed: -1", ("seed: expected a number of 0 or more, got -1,",)),
        ("optim: {epochs: null}", ("optim.epochs: expected a number of 1 or more, got None,",)),
        ("optim: {ema_decay: 1}", ("optim.ema_decay: expected a number over 0 and under 1, or null, got 1.0,",)),
        ("data: {input_size: 300.5}", ("data.input_size", "int", "300.5")),
    ],
)
def test_mistakes_in_yaml(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    line = error_line(capsys, "train", "--config", str(file))
    for part in (*parts, "mine.yaml"):
        assert part in line


@pytest.mark.parametrize("words", [[], ["train"], ["evaluate"], ["predict"], ["cost"]])
def test_help_waits_for_no_heavy_import(words: list[str]) -> None:
    code = (
        "import sys, atexit;"
        "atexit.register(lambda: print('heavy:', sorted({'torch', 'cv2', 'matplotlib'} & set(sys.modules))));"
        "import runpy; runpy.run_module('tasks.detection', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, *words, "--help"], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("heavy: []")
    if words:
        text = " ".join(done.stdout.split())
        assert f"example: python -m tasks.detection {words[0]}" in text
        assert "highest learning rate" in text  # each setting is explained


def test_another_package_called_datasets_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "datasets" / "__init__.py"))
    with pytest.raises(ValueError, match="another project's; run `python -m tasks"):
        cli._check_packages()


def test_list_of_tasks() -> None:
    done = subprocess.run([sys.executable, "-m", "tasks"], capture_output=True, check=True, text=True)
    commands = [line.strip() for line in done.stdout.splitlines()[1::2]]
    assert commands == [f"python -m tasks.{task} train" for task in sorted(TASKS)]
