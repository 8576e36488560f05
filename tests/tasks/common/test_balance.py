"""`optim.balance`: in each task that has classes, in batches and in the linear probe; refused elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from datasets.files import CACHE_VARIABLE
from datasets.images.read import write_image
from tasks.classification.config import ClassificationConfig
from tasks.classification.task import ClassificationTask
from tasks.common.evaluation.features import pooled_features
from tasks.common.runs.checkpoint import load_checkpoint
from tasks.common.training.linear_probe import fit_linear_probe
from tasks.registry import config_class
from tests.tasks.conftest import TinyTask, build_config

HAVE_CLASSES = ("classification", "detection", "geolocation")


def classes_of_row(task: Any, row: int) -> list[Any]:
    """The classes of a training image, by hand."""
    truth = task.source("train").truth(row)
    if task.name == "classification":
        return [truth.class_id]
    if task.name == "detection":
        return list(truth.class_ids)
    cell = int(task.partitionings[-1].find(np.array([truth.lat_deg]), np.array([truth.lng_deg]))[0])
    return [cell] if cell >= 0 else []


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_images_of_rare_classes_are_shown_more_often(tiny_task: TinyTask, balance: float) -> None:
    if tiny_task.task not in HAVE_CLASSES:
        pytest.skip("no classes")
    task = tiny_task(optim={"balance": balance})
    num_images = len(task.source("train"))
    classes = [set(classes_of_row(task, row)) for row in range(num_images)]
    frequency = {name: sum(name in of_image for of_image in classes) / num_images for name in set().union(*classes)}
    weights = np.array([max([1.0, *(frequency[name] ** -balance for name in names)]) for names in classes])
    order, rng = task.order(), np.random.default_rng(0)
    assert order is not None
    counts = np.mean([np.bincount(order(rng, 4), minlength=num_images) for _ in range(2000)], 0)
    np.testing.assert_allclose(counts, num_images * weights / weights.sum(), atol=0.06)


def test_without_balance_there_is_no_order_of_its_own(tiny_task: TinyTask) -> None:
    if tiny_task.task != "embedding":
        assert tiny_task().order() is None


@pytest.mark.parametrize("name", ["attributes", "embedding"])
def test_tasks_that_balance_by_other_means_refuse_it(name: str) -> None:
    with pytest.raises(SystemExit):
        build_config(config_class(name), optim={"balance": 0.5})


@pytest.fixture
def skewed(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Class folders with 16 and 3 and 5 noisy images of similar colours."""
    root = tmp_path / "skewed"
    for name, level, num_images in (("a", 100, 16), ("b", 118, 3), ("c", 136, 5)):
        for number in range(num_images):
            for split in ("train", "val"):
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                pixels = rng.normal(level, 30, (40, 40, 3)) + rng.normal(0, 12, 3)
                write_image(folder / f"{number}.png", pixels.clip(0, 255).astype(np.uint8))
    return root


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_linear_probe_weighs_images_as_they_would_be_shown(
    skewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balance: float
) -> None:
    """The optimum is scikit-learn's for these sample weights: mean loss + d / 2 |W|^2, with C = 1 / (d N)."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    config = build_config(
        ClassificationConfig,
        data={"root": str(skewed), "input_size": 32},
        backbone={"name": "mobilenet_0.25"},
        optim={"layers": "linear_probe", "weight_decay": 0.02, "balance": balance},
        loop={"num_workers": 0},
    )
    task, run = ClassificationTask.from_data(config), tmp_path / "run"
    run.mkdir()
    fit_linear_probe(task, run)
    head = load_checkpoint(run / "best.pt")["model"]["head.weight"]
    torch.manual_seed(config.seed)
    source = task.source("train")
    features = pooled_features(task, task.build_model().backbone, source, "features")
    class_ids = [source.truth(row).class_id for row in features.rows]
    shown = np.array([24 / (16, 3, 5)[class_id] for class_id in class_ids]) ** balance
    reference = LogisticRegression(C=1 / (0.02 * 24), tol=1e-8, max_iter=5000)
    reference.fit(features.values.numpy(), class_ids, sample_weight=24 * shown / shown.sum())
    np.testing.assert_allclose(head.numpy(), reference.coef_, atol=2e-3)
