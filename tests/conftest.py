"""Fixtures that all tests share: real data where it is there, and small drawn data anywhere."""

import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no GPU here")


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
        pytest.skip("the real data in ../shared are not here")
    return path


@pytest.fixture(scope="session")
def drawn_roots(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a few drawn examples for a task; each task's are drawn once."""
    num_images: dict[str, dict[str, Any]] = {
        "attributes": {"train": 24, "val": 8},
        "classification": {"train": 2, "test": 1},
        "detection": {"train2017": 24, "val2017": 8},
        "embedding": {"train": (12, 2), "val": (6, 4)},
        "geolocation": {"train": 24, "val": 8},
    }

    @functools.cache
    def draw(task: str) -> Path:
        root = tmp_path_factory.mktemp("drawn")
        importlib.import_module(f"datasets.sample.{task}").write_sample(root, num_images[task])
        return root

    return draw


@pytest.fixture(scope="session")
def drawn_root(drawn_roots: Callable[[str], Path]) -> Path:
    """A few drawn scenes in COCO's layout: 24 for training, 8 for validation."""
    return drawn_roots("detection")
