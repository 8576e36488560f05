"""Errors in words and YAML: one line with the key and the expected value. Help, and the commands that it ends with."""

import ast
import dataclasses
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import datasets
from distill.cli import COMMAND, NAME
from tasks.classification.config import ClassificationConfig
from tasks.common.cli import main as cli
from tasks.common.cli.commands import COMMANDS, Command
from tasks.common.cli.help import USUAL, list_verbs
from tasks.common.cli.parser import Arguments, parse_arguments
from tasks.common.config import WITHOUT_RUN
from tasks.common.settings import flatten
from tasks.detection.config import DetectionConfig
from tasks.embedding import cli as embedding_cli
from tasks.geolocation import cli as geolocation_cli
from tasks.geolocation.config import GeolocationConfig
from tasks.registry import TASKS, config_class

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SAMPLE = CONFIGS / "detection" / "sample.yaml"


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
        optim = parse("train", *words).config.optim
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


@pytest.mark.parametrize("in_yaml", [False, True])
@pytest.mark.parametrize("word", ["none", "None", "null"])
def test_none_is_null_where_a_setting_may_be_null_and_is_no_text(word: str, in_yaml: bool, tmp_path: Path) -> None:
    words = ("--data.val_fraction", word, f"--optim.ema_decay={word}", "--backbone.conventions", word)
    if in_yaml:
        file = tmp_path / "mine.yaml"
        file.write_text(
            f"data: {{val_fraction: {word}}}\noptim: {{ema_decay: {word}}}\n"
            f"backbone: {{conventions: {word}}}\npretrained: none\n"
        )
        words = ("--config", str(file))
    config = parse("train", *words).config
    assert (config.data.val_fraction, config.optim.ema_decay, config.backbone.conventions) == (None, None, None)
    assert config.pretrained == "none"  # a text, which is a word of its own
    assert parse("train", "--pretrained", "none", "--data.root", "none").config.data.root == "none"


def test_a_switch_may_stand_alone() -> None:
    for words, expected in (((), True), (("true",), True), (("false",), False)):
        config = parse("train", "--optim.freeze_bn", *words, "--optim.epochs", "3").config
        assert (config.optim.freeze_bn, config.optim.epochs) == (expected, 3)
    words = ("predict", "--pretrained", "keras", "--exact", "photo.jpg")
    predict = parse_arguments("geolocation", GeolocationConfig, SAMPLE, words)
    assert predict.config.exact
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
        (
            ("train", "--backbone.name", "mobilenet_v2_1.0", "--backbone.channels", "[8,8]"),
            ("backbone.channels: expected null with mobilenet_v2_1.0, got (8, 8);",),
        ),
        (("train", "--config", "none.yaml"), ("none.yaml", "not exist")),
        (("train", "--resume", "nowhere"), ("nowhere", "not a run folder")),
        (("train", "--pretrained", "null"), ("pretrained: cannot be null",)),
        (("train", "--optim.lr", "none"), ("optim.lr", "float", "none")),
        (("train", "--optim.balance", "1.5"), ("optim.balance: expected a number of 0 or more and at most 1",)),
        (("train", "--optim.patience", "0"), ("optim.patience: expected a number of 1 or more, or null, got 0;",)),
        (("train", "--extend", "nowhere"), ("nowhere", "not a run folder")),
        (("train", "--optim.epoch", "1"), ("unknown setting optim.epoch", "did you mean optim.epochs?")),
        (("train", "--data", "photos"), ("data: is a group of settings", "such as data.root")),
        (("evaluate",), ("expected a model: --run with a run folder, or --pretrained with the name or the file",)),
        (("predict", "--run", "nowhere", "a.jpg"), ("nowhere", "not a run folder")),
        (
            ("predict", "--run", __file__, "a.jpg"),
            ("test_parser.py: a file; expected a run folder, with a config.yaml",),
        ),
        (("predict", "--run=a", "--optim.lr", "1"), ("optim.lr: cannot be set in predict; it acts in train;",)),
        (
            ("export", "--run=a", "--pretrained=keras"),
            ("pretrained: cannot be set in export with --run, which has its own",),
        ),
        (("benchmark", "--data.input_size", "96"), ("data.input_size: cannot be set in benchmark",)),
        (("benchmark", "--loop.device", "cuda"), ("loop.device: cannot be set in benchmark",)),  # it times the CPU
    ],
)
def test_errors_on_the_command_line(
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
        ("optim: [", ("not valid YAML",)),
        ("ssd: {neck: {name: fpn}}", ("ssd.neck",)),
        ("seed: -1", ("seed: expected a number of 0 or more, got -1,",)),
        ("optim: {epochs: null}", ("optim.epochs: cannot be null,",)),
        ("pretrained: null", ("pretrained: cannot be null,",)),
        ("optim: {name: null}", ("optim.name: cannot be null,",)),
        ("faster_rcnn: {anchor_scales: null}", ("faster_rcnn.anchor_scales: cannot be null,",)),
        ("optim: {ema_decay: 1}", ("optim.ema_decay: expected a number over 0 and under 1, or null, got 1.0,",)),
        ("data: {input_size: 300.5}", ("data.input_size", "int", "300.5")),
    ],
)
def test_errors_in_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    line = error_line(capsys, "train", "--config", str(file))
    for part in (*parts, "mine.yaml"):
        assert part in line


def test_settings_of_the_weights_have_no_effect_on_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A run has its own backbone; published weights take the one in the settings."""
    (tmp_path / "config.yaml").write_text("data: {input_size: 96}\n")
    words = ("predict", "a.jpg", "--pretrained", "keras")
    parsed = parse_arguments("classification", ClassificationConfig, SAMPLE, words)
    assert parsed.config.pretrained == "keras"
    with pytest.raises(SystemExit):
        parse_arguments("classification", ClassificationConfig, SAMPLE, (*words, "--run", str(tmp_path)))
    assert "pretrained: cannot be set in predict with --run" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("tran",), ("--optim.lr", "1")])
def test_a_wrong_verb_and_a_missing_one_list_the_verbs(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(*words)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == f"error: expected a verb, got {[*words, 'nothing'][0]}" + "; did you mean train?" * (
        "tran" in words
    )
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    assert ["", *capsys.readouterr().out.splitlines()] == lines
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)


def every_verb() -> Iterator[tuple[str, str]]:
    yield from ((task, verb) for task in TASKS for verb in commands_of(task))
    yield NAME, NAME


def commands_of(task: str) -> Mapping[str, Command]:
    more = {"embedding": embedding_cli.COMMANDS, "geolocation": geolocation_cli.COMMANDS, NAME: {NAME: COMMAND}}
    return more.get(task, COMMANDS)


@pytest.mark.parametrize("task", TASKS)
def test_each_verb_is_listed_as_a_word_of_its_own(task: str) -> None:
    lines = list_verbs(task, commands_of(task)).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(commands_of(task))


@pytest.mark.parametrize(("task", "verb"), list(every_verb()))
def test_help_is_short_and_ends_with_two_commands_that_parse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: str, verb: str
) -> None:
    student = "embedding" if task == NAME else task
    settings_class, sample, commands = config_class(student), CONFIGS / student / "sample.yaml", commands_of(task)
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        parse_arguments(task, settings_class, sample, (verb, "--help"), commands)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("  ") or len(line) <= 80 for line in lines)
    if verb == "predict":
        assert len(lines) < 64
    *_, title, first, second = lines
    assert title == "examples:"

    run = tmp_path / "runs" / task / "first"
    for folder in (run, tmp_path / "runs" / "gallery"):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("seed: 3\n")
    root = Path.cwd()
    monkeypatch.chdir(tmp_path)  # where there are the runs that the first commands make
    for line in (first, second):
        python, flag, module, *words = shlex.split(line)
        assert python == "python"
        if flag == "-c":  # makes what the second command reads
            ast.parse(module)
            continue
        assert (flag, module) == ("-m", NAME if task == NAME else f"tasks.{task}")
        words = [*([NAME] if task == NAME else []), *words]
        parsed = parse_arguments(task, settings_class, sample, words, commands)
        assert parsed.config.seed == (3 if parsed.options.get("run") else 0)
        for name in parsed.options.get("inputs", ()):
            assert list(root.glob(name)), f"{name} is in the repository"


@pytest.mark.parametrize("task", TASKS)
def test_what_acts_is_declared_of_settings_and_verbs_that_exist(task: str) -> None:
    settings_class = config_class(task)
    settings = flatten(dataclasses.asdict(settings_class()))
    for base in settings_class.__mro__:
        for verb, keys in vars(base).get("ACTS_IN", {}).items():
            assert verb.removesuffix(WITHOUT_RUN) in commands_of(task)
            for key in keys:
                assert key in settings or any(name.startswith(f"{key}.") for name in settings), (verb, key)


def test_another_backbone_has_its_own_channels(tmp_path: Path) -> None:
    channels = [8] * 14
    (tmp_path / "pruned.yaml").write_text(f"backbone: {{name: mobilenet_1.0, channels: {channels}}}")
    words = ("train", "--config", str(tmp_path / "pruned.yaml"))
    assert parse(*words).config.backbone.channels == tuple(channels)
    assert parse(*words, "--backbone.name", "mobilenet_0.5").config.backbone.channels is None


def test_the_usual_settings_come_first_where_all_act(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse("train", "--help")
    printed = capsys.readouterr().out
    flags = re.findall(r"^  --(\S+)", printed.partition("usual settings:")[2], re.MULTILINE)
    assert tuple(flags[: len(USUAL)]) == USUAL
    assert sorted(flags) == sorted(flatten(dataclasses.asdict(DetectionConfig())))
    assert "peak learning rate" in printed  # each setting is explained


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


def test_another_package_called_datasets_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "datasets" / "__init__.py"))
    with pytest.raises(ValueError, match="another project's; run `python -m tasks"):
        cli._check_packages()


def test_list_of_tasks() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tasks", *words]
        return subprocess.run(command, capture_output=True, check=False, text=True)

    listed = run()
    assert listed.returncode == 0
    commands = [line.strip() for line in listed.stdout.splitlines()[1::2]]
    assert commands == [f"python -m tasks.{task} train" for task in sorted(TASKS)]
    wrong = run("detect")
    assert wrong.returncode == 2
    assert wrong.stderr == f"error: there is no task detect; the tasks are:\n\n{listed.stdout}"
    task = run("detection")
    assert task.returncode == 2
    assert task.stderr.startswith("error: expected a verb, got nothing\n\nusage: python -m tasks.detection VERB")
