"""Linear probe: the optimum equals scikit-learn's; features are cached; failure cases."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from datasets.classification.labelled import LabelledImages
from datasets.face_detection import NoFaceError
from datasets.files import CACHE_VARIABLE
from datasets.images.read import UnreadableImageError, read_image
from datasets.types import Example, Label
from tasks.classification.config import ClassificationConfig
from tasks.classification.task import ClassificationTask
from tasks.common.evaluation.failure_cases import NUM_KEPT, FailureCases
from tasks.common.evaluation.features import pooled_features
from tasks.common.training import linear_probe
from tasks.common.training.linear_probe import fit_linear_probe, minimise
from tests.tasks.common.recorder import Recorder
from tests.tasks.conftest import build_config


def test_optimum_is_that_of_logistic_regression(rng: np.random.Generator) -> None:
    """Mean loss + d / 2 |W|^2 has the minimum of scikit-learn's C * sum of losses + |W|^2 / 2 for C = 1 / (d N)."""
    x = rng.normal(size=(120, 8)).astype(np.float32)
    y = (x[:, :3] + rng.normal(0, 0.5, (120, 3))).argmax(1)
    head = nn.Linear(8, 3)
    features, truth = torch.from_numpy(x), torch.from_numpy(y)
    minimise(head, lambda: functional.cross_entropy(head(features), truth), 0.02)
    reference = LogisticRegression(C=1 / (0.02 * 120), tol=1e-8, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(head.weight.detach().numpy(), reference.coef_, atol=2e-3)


@pytest.fixture
def task(generated_roots: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ClassificationTask:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    root = generated_roots("classification")
    config = build_config(
        ClassificationConfig,
        data={"root": str(root), "format": "stanford_dogs", "input_size": 64},
        backbone={"name": "mobilenet_0.25"},
        optim={"layers": "linear_probe", "weight_decay": 0.001},
        loop={"num_workers": 0},
    )
    return ClassificationTask.from_data(config)


def test_checkpoint_has_the_whole_network(task: ClassificationTask, tmp_path: Path) -> None:
    from tasks.common.runs.checkpoint import load_checkpoint

    run = tmp_path / "run"
    run.mkdir()
    recorder = Recorder()
    metrics = fit_linear_probe(task, run, [recorder])
    assert [event for event, _ in recorder.calls] == ["start", "end"]
    assert recorder.of("end") == [metrics]
    assert set(metrics) == {"top1", "top5", "mean_per_class"}
    content = load_checkpoint(run / "best.pt", "classification")
    torch.manual_seed(0)
    before = task.build_model()
    after = task.build_model()
    after.load_state_dict(content["model"])
    assert all(
        torch.equal(a, b) for a, b in zip(before.backbone.parameters(), after.backbone.parameters(), strict=True)
    )
    assert not torch.equal(before.head.weight, after.head.weight)
    assert (run / "metrics.json").is_file()
    assert (run / "predictions.png").is_file()


def test_too_little_memory_is_an_error_before_features_are_computed(
    task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 images, 256 features and 16 classes: 4 (32 (256 + 3 16) + 200 (256 16 + 16)) bytes."""
    needed = 4 * (32 * (256 + 3 * 16) + 200 * (256 * 16 + 16))
    model = task.build_model()
    for available in (needed, None):
        monkeypatch.setattr(linear_probe, "available_bytes", lambda available=available: available)
        linear_probe._check_memory(model, 32)
    monkeypatch.setattr(linear_probe, "available_bytes", lambda: needed - 1)
    with pytest.raises(
        ValueError, match=r"takes about 0\.0 GB of memory for 32 images, 256 features and 16 outputs.*use all or"
    ):
        fit_linear_probe(task, tmp_path)
    assert not (tmp_path / "cache").exists()


def test_features_are_those_of_the_network_and_cached(task: ClassificationTask, tmp_path: Path) -> None:
    model, source = task.build_model().eval(), task.source("val")
    features = pooled_features(task, model.backbone, source, "")
    images = np.stack([task.preprocessing()(source[row].image) for row in features.rows])
    with torch.no_grad():
        expected = model.backbone(torch.from_numpy(images).permute(0, 3, 1, 2))
    torch.testing.assert_close(features.values, expected)
    (file,) = (tmp_path / "cache" / "features").iterdir()
    written = file.stat().st_mtime_ns
    again = pooled_features(task, model.backbone, source, "")
    assert torch.equal(again.values, features.values)
    assert file.stat().st_mtime_ns == written

    with torch.no_grad():
        next(model.backbone.parameters()).add_(0.01)  # changed weights change the cache key
    other = pooled_features(task, model.backbone, source, "")
    assert not torch.equal(other.values, features.values)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_images_with_nothing_in_them_are_not_counted_as_unreadable(
    task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, source = task.build_model().eval(), task.source("val")
    read = type(source).__getitem__
    errors = {1: NoFaceError("no face found"), 2: UnreadableImageError("truncated"), 5: NoFaceError("no face found")}

    def read_some(self: LabelledImages, row: int) -> Example[Label]:
        if row in errors:
            raise type(errors[row])(f"{row}: {errors[row]}")
        return read(self, row)

    monkeypatch.setattr(type(source), "__getitem__", read_some)
    loop = dataclasses.replace(task.config.loop, max_unreadable_fraction=0.5)
    task.config = dataclasses.replace(task.config, loop=loop)
    for _ in range(2):  # computed, then from the cache
        features = pooled_features(task, model.backbone, source, "")
        assert features.num_unreadable == 1
        assert features.rows == [row for row in range(len(source)) if row not in errors]


def test_failure_cases_are_drawn_worst_first_and_only_if_there_are_any(
    task: ClassificationTask, tmp_path: Path
) -> None:
    source = task.source("val")

    def write(*rows_and_confidences: tuple[int, float | None]) -> None:
        """Without a confidence the prediction is correct; otherwise it is class 15."""
        worst = FailureCases(task)
        for row, confidence in rows_and_confidences:
            truth = source.truth(row)
            probabilities = np.full(16, (1 - (confidence or 1)) / 15, np.float32)
            probabilities[15] = confidence or 1
            worst.update([row], [truth if confidence is None else Label(15, probabilities)], [truth])
        worst.write(source, tmp_path)

    write((0, None), (1, None))
    assert not list(tmp_path.glob("failure_cases.*"))

    write((0, None), (1, 0.5), (2, 0.9), (3, None))
    sheet = read_image(tmp_path / "failure_cases.png")
    with (tmp_path / "failure_cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], float(row["confidence"])) for row in rows] == [
        (source.id(2), pytest.approx(0.9)),
        (source.id(1), pytest.approx(0.5)),
    ]
    true_name = task.class_names[source.truth(2).class_id]
    assert rows[0]["what"] == f"{task.class_names[15]}: is {true_name}"
    write((2, 0.9))
    worst = read_image(tmp_path / "failure_cases.png")
    np.testing.assert_array_equal(sheet[:, : worst.shape[1]], worst)
    assert sheet.shape[1] == 2 * worst.shape[1]


def test_only_the_worst_failure_cases_are_kept(
    task: ClassificationTask, rng: np.random.Generator, tmp_path: Path
) -> None:
    """The first ones of a stable sort by confidence."""
    confidences = rng.integers(0, 150, 500) / 150
    worst = FailureCases(task)
    for row, confidence in enumerate(confidences.tolist()):
        wrong = Label(1, np.array([0, confidence], np.float32))
        worst.update([row], [wrong], [Label(0)])
    worst.write(RepeatedSource(task.source("val")), tmp_path)
    with (tmp_path / "failure_cases.csv").open() as file:
        kept = [int(row["image"]) for row in csv.DictReader(file)]
    assert kept == np.argsort(-confidences, kind="stable")[:NUM_KEPT].tolist()


class RepeatedSource:
    """A source with the same image at every row, whose id is the row."""

    def __init__(self, source: Any) -> None:
        self._example = source[0]

    def id(self, row: int) -> str:
        return str(row)

    def __getitem__(self, row: int) -> Any:
        return self._example
