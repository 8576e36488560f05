"""The samples that the contract test runs over: of each task and model. A new one adds a line."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datasets.types import Face
from tasks.registry import config_class, task_class

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SAMPLES: dict[str, dict[str, Any]] = {  # each model, and settings that make it quicker to test
    "attributes/sample": {},
    "classification/sample": {},
    "detection/sample": {},
    "detection/faster_rcnn_sample": {"faster_rcnn": {"num_proposals": 40, "num_sampled": 24}},
    "embedding/sample": {},
    "geolocation/sample": {"cells": {"max_photos": [6, 2], "min_photos": 1}},
}


def as_prediction(truth: Sequence[Any]) -> list[Any]:
    """What a network would predict that knows the truth: the truth, or for a face an axis of the person's own."""
    if not isinstance(truth[0], Face):
        return list(truth)
    persons = sorted({face.identity for face in truth})
    return [Face(embedding=np.eye(len(persons), dtype=np.float32)[persons.index(face.identity)]) for face in truth]


def build_config(settings_class: type[Any], *files: Path, **changes: dict[str, Any]) -> Any:
    """A configuration from YAML files and groups of changes, by the same parser as the command line."""
    from tasks.common.cli.parser import parse_arguments

    words = [word for file in files for word in ("--config", str(file))]
    words += [
        f"--{group}.{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"
        for group, settings in changes.items()
        for key, value in settings.items()
    ]
    name = settings_class.__module__.split(".")[1]
    return parse_arguments(name, settings_class, Path("unused.yaml"), ["cost", *words]).config


@pytest.fixture
def error_line_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function of a command and its words: they fail with one line, and this is it."""

    def error_line(run: Callable[..., int], *words: str) -> str:
        capsys.readouterr()
        with contextlib.suppress(SystemExit):  # after a mistake in the words alone
            assert run(*words) == 1
        (line,) = (text for text in capsys.readouterr().err.splitlines() if not text.startswith("weights "))
        return line

    return error_line


@pytest.fixture(params=SAMPLES)
def tiny_task(request: pytest.FixtureRequest, drawn_roots: Callable[[str], Path]) -> Callable[..., Any]:
    """Each task and model in turn on a few drawn examples: a function of further settings."""
    sample = CONFIGS / f"{request.param}.yaml"
    task = sample.parent.name
    drawn_root = drawn_roots(task)

    def build(**changes: dict[str, Any]) -> Any:
        settings = {"data": {"root": str(drawn_root), "input_size": 96}, "loop": {"num_workers": 0}} | SAMPLES[
            request.param
        ]
        for group, values in changes.items():
            settings[group] = settings.get(group, {}) | values
        return task_class(task).from_data(build_config(config_class(task), sample, **settings))

    return build
