"""Small teachers, small students, and the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.files import CACHE_VARIABLE
from distill.cli import main
from tasks.registry import config_class, task_class
from tests.tasks.conftest import SAMPLES, build_config, error_line_of

__all__ = ["error_line_of"]

# Input sizes.
SMALL = {
    "attributes": 48,
    "classification": 48,
    "detection": 96,
    "embedding": 64,
    "geolocation": 48,
    "segmentation": 64,
}
TINY = ("--loop.num_workers", "0", "--optim.epochs", "1", "--optim.batch_size", "8", "--optim.ema_decay", "null")


@pytest.fixture(autouse=True)
def _isolated_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data_flags(generated_roots: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """The flags for a task's few generated examples."""

    def flags(task: str) -> list[str]:
        extra = {
            "classification": ["--data.format", "stanford_dogs"],
            "geolocation": ["--cells.max_photos", "[6, 2]", "--cells.min_photos", "1"],
        }.get(task, [])
        return ["--data.root", str(generated_roots(task)), "--data.input_size", str(SMALL[task]), *extra]

    return flags


@pytest.fixture
def student(generated_roots: Callable[[str], Path]) -> Callable[..., Any]:
    """The task of a student on a few generated examples: a function of the task's name and further settings."""

    def build(task: str, **changes: dict[str, Any]) -> Any:
        settings: dict[str, dict[str, Any]] = {
            "data": {"root": str(generated_roots(task)), "input_size": SMALL[task]},
            "loop": {"num_workers": 0},
            **SAMPLES[f"{task}/sample"],
        }
        if task == "classification":
            settings["data"]["format"] = "stanford_dogs"
        for group, values in changes.items():
            settings[group] = settings.get(group, {}) | values
        return task_class(task).from_data(build_config(config_class(task), **settings))

    return build


@pytest.fixture
def trained_run(tmp_path: Path, data_flags: Callable[[str], list[str]]) -> Callable[..., str]:
    """The folder of a run of one epoch: a function of the task's name and further flags."""
    from tasks.common.cli import main as cli

    def train(task: str, *flags: str) -> str:
        run = tmp_path / f"{task}-teacher"
        settings = ["--backbone.name", "mobilenet_0.25", *data_flags(task), *TINY, "--run_dir", str(run), *flags]
        assert cli.main(task, ["train", *settings]) == 0
        return str(run)

    return train


@pytest.fixture
def distil(data_flags: Callable[[str], list[str]]) -> Callable[..., int]:
    """`python -m distill` with small settings: a function of the task's name and further flags."""

    def run(task: str, *flags: str) -> int:
        return main([*data_flags(task), *TINY, "--student", "mobilenet_0.25", *flags])

    return run
