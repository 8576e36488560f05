"""The samples of each task and model that the contract test runs on. A new task or model adds a line to SAMPLES."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datasets.types import Face
from tasks.registry import config_class, task_class

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# File in `configs` -> settings that make the sample quicker to test.
SAMPLES: dict[str, dict[str, Any]] = {
    "attributes/sample": {},
    "classification/sample": {},
    "detection/sample": {},
    "detection/faster_rcnn_sample": {"faster_rcnn": {"num_proposals": 40, "num_sampled": 24}},
    "embedding/sample": {},
    "geolocation/sample": {"cells": {"max_photos": [6, 2], "min_photos": 1}},
    "segmentation/sample": {},
}


def as_prediction(truth: Sequence[Any]) -> list[Any]:
    """Perfect predictions: the truth itself, or for faces a one-hot embedding of the identity."""
    if not isinstance(truth[0], Face):
        return list(truth)
    identities = sorted({face.identity for face in truth})
    one_hot = np.eye(len(identities), dtype=np.float32)
    return [Face(embedding=one_hot[identities.index(face.identity)]) for face in truth]


def build_config(settings_class: type[Any], *files: Path, pretrained: str = "none", **changes: dict[str, Any]) -> Any:
    """A configuration from YAML files and groups of changes, by the same parser as the command line."""
    from tasks.common.cli.commands import COMMANDS
    from tasks.common.cli.parser import parse_arguments

    train = dataclasses.replace(COMMANDS["train"], uses_sample=False)
    words = [word for file in files for word in ("--config", str(file))]
    words += [f"--pretrained={pretrained}"]
    words += [
        f"--{group}.{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"
        for group, settings in changes.items()
        for key, value in settings.items()
    ]
    name = settings_class.__module__.split(".")[1]
    return parse_arguments(name, settings_class, Path("unused.yaml"), ["train", *words], {"train": train}).config


@pytest.fixture
def error_line_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs a failing command and returns its one-line error."""

    def error_line(run: Callable[..., int], *words: str) -> str:
        capsys.readouterr()
        with contextlib.suppress(SystemExit):  # after an error in the arguments
            assert run(*words) == 1
        *lines, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert all(text.startswith(("data: ", "weights ", "note: ", "warning: ")) for text in lines), lines
        return line

    return error_line


@dataclass(frozen=True)
class TinyTask:
    """Builds a task on its generated sample; call it with groups of further settings.

    Attributes:
        sample: a key of SAMPLES.
        task: name of the task.
        sample_roots: from the name of a task to the folder of its sample.
    """

    sample: str
    task: str
    sample_roots: Callable[[str], Path]

    def __call__(self, **changes: dict[str, Any]) -> Any:
        data = {"root": str(self.sample_roots(self.task)), "input_size": 96}
        settings = {"data": data, "loop": {"num_workers": 0}} | SAMPLES[self.sample]
        for group, values in changes.items():
            settings[group] = settings.get(group, {}) | values
        config = build_config(config_class(self.task), CONFIGS / f"{self.sample}.yaml", **settings)
        return task_class(self.task).from_data(config)


@pytest.fixture(params=SAMPLES)
def tiny_task(request: pytest.FixtureRequest, generated_roots: Callable[[str], Path]) -> TinyTask:
    """Each task and model in turn, on a few generated examples."""
    return TinyTask(request.param, request.param.split("/")[0], generated_roots)
