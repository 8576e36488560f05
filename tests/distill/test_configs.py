"""Every recipe loads, and the command gets its settings."""

from pathlib import Path

import pytest
import yaml

from distill.cli import COMMAND, NAME, main
from distill.config import DistillConfig, OnnxConfig
from tasks.common.cli.parser import parse_arguments
from tasks.common.settings import build_settings, read_config
from tasks.registry import config_class
from tests.tasks.conftest import CONFIGS

FILES = sorted((CONFIGS / NAME).glob("*.yaml"))
TEACHERS = {"facenet_teacher": "embedding", "attributes_teacher": "attributes"}


@pytest.mark.parametrize("file", [file for file in FILES if file.stem not in TEACHERS], ids=lambda file: file.stem)
def test_recipe_loads(file: Path) -> None:
    settings_class = config_class(file.stem.partition("_")[0])
    parsed = parse_arguments(NAME, settings_class, Path(), [NAME, "--config", str(file)], {NAME: COMMAND})
    lists = {key: tuple(parsed.options[key]) for key in ("teacher", "unlabelled")}
    distill_config = build_settings(DistillConfig, parsed.options | lists)
    settings = yaml.safe_load(file.read_text())
    assert distill_config.views == settings["views"]
    assert distill_config.alpha == settings.get("alpha", 0)
    assert parsed.config.optim.epochs == settings["optim"]["epochs"]


@pytest.mark.parametrize("name", TEACHERS)
def test_teacher_recipe_loads(name: str) -> None:
    assert read_config(config_class(TEACHERS[name]), CONFIGS / NAME / f"{name}.yaml").loop.precision == "bf16"


def test_a_wrong_value_is_reported_under_its_command_line_name() -> None:
    with pytest.raises(ValueError, match=r"^alpha: expected a number of 0 or more and under 1, got 1$"):
        DistillConfig(teacher=("facenet",), alpha=1)
    with pytest.raises(ValueError, match=r"^onnx\.std: expected numbers over 0, got \(1, 0, 1\)$"):
        OnnxConfig(std=(1, 0, 1))


def test_help_lists_the_settings_of_task_and_distillation(capsys: pytest.CaptureFixture[str]) -> None:
    for task, setting in (
        ("attributes", "--pos_weight_exponent"),
        ("embedding", "--margin"),
        ("classification", "--label_smoothing"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(["--task", task, "--help"])
        printed = capsys.readouterr().out
        assert setting in printed
        assert "--class_loss {kd,dkd,dist}" in printed
        assert "examples:\n  python -m distill --teacher facenet --student mobilenet_0.5\n" in printed
