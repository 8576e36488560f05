"""The tasks and models that the contract test runs over. A new one adds a line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.classification import ClassificationConfig, ClassificationTask
from tasks.detection import DetectionConfig, DetectionTask
from tasks.geolocation import GeolocationConfig, GeolocationTask

TASKS: dict[str, tuple[type[Any], type[Any]]] = {
    "classification": (ClassificationConfig, ClassificationTask),
    "detection": (DetectionConfig, DetectionTask),
    "geolocation": (GeolocationConfig, GeolocationTask),
}


CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SAMPLES: dict[str, dict[str, Any]] = {  # each model, and settings that make it quicker to test
    "classification/sample": {},
    "detection/sample": {},
    "detection/faster_rcnn_sample": {"faster_rcnn": {"num_sampled": 24}},
    "geolocation/sample": {"cells": {"max_photos": [6, 2], "min_photos": 1}},
}


def build_config(config_class: type[Any], *files: Path, **changes: dict[str, Any]) -> Any:
    """A configuration from YAML files and groups of changes, by the same parser as the command line."""
    from tasks.common.parser import parse_arguments

    words = [word for file in files for word in ("--config", str(file))]
    words += [
        f"--{group}.{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"
        for group, settings in changes.items()
        for key, value in settings.items()
    ]
    name = config_class.__module__.split(".")[1]
    return parse_arguments(name, config_class, Path("unused.yaml"), ["cost", *words]).config


@pytest.fixture(params=SAMPLES)
def tiny_task(request: pytest.FixtureRequest, drawn_roots: Callable[[str], Path]) -> Callable[..., Any]:
    """Each task and model in turn on a few drawn examples: a function of further settings."""
    sample = CONFIGS / f"{request.param}.yaml"
    config_class, task_class = TASKS[sample.parent.name]
    drawn_root = drawn_roots(sample.parent.name)

    def build(**changes: dict[str, Any]) -> Any:
        settings = {"data": {"root": str(drawn_root), "input_size": 96}, "loop": {"num_workers": 0}} | SAMPLES[
            request.param
        ]
        for group, values in changes.items():
            settings[group] = settings.get(group, {}) | values
        return task_class.from_data(build_config(config_class, sample, **settings))

    return build
