"""Fixtures for all tests: real data if available, and small generated samples."""

import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # of tests that import ONNX Runtime by themselves

REPOSITORY = Path(__file__).resolve().parents[1]
# Task -> size of each split of its generated sample, as `datasets/sample/<task>.py: write_sample` takes it.
SAMPLE_SIZES: dict[str, dict[str, Any]] = {
    "attributes": {"train": 24, "val": 8},
    "classification": {"train": 2, "test": 1},
    "detection": {"train2017": 24, "val2017": 8},
    "embedding": {"train": (12, 2), "val": (6, 4)},
    "geolocation": {"train": 24, "val": 8},
    "segmentation": {"train": 24, "val": 8},
}

# HYPOTHESIS_PROFILE=thorough: for whoever changes a reader of data.
settings.register_profile(
    "quick", max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real images and weights beside the repository."""
    path = REPOSITORY.parent / "shared"
    if not (path / "data").is_dir():
        pytest.skip("no real data in ../shared")
    return path


@pytest.fixture(scope="session")
def generated_roots(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a task's name to the folder of its generated sample, which is written once."""

    @functools.cache
    def write(task: str) -> Path:
        root = tmp_path_factory.mktemp("sample")
        importlib.import_module(f"datasets.sample.{task}").write_sample(root, SAMPLE_SIZES[task])
        return root

    return write


@pytest.fixture(scope="session")
def generated_root(generated_roots: Callable[[str], Path]) -> Path:
    """The generated detection sample in COCO's layout: 24 images for training, 8 for validation."""
    return generated_roots("detection")
