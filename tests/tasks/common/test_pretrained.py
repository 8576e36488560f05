"""A run of any task gives its backbone to any other, with the conventions that it was built with."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tasks.classification.config import ClassificationConfig
from tasks.classification.task import ClassificationTask
from tasks.common.runs.checkpoint import save_best
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask
from tests.tasks.conftest import build_config


@pytest.fixture(params=["timm", None])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """The folder of a detector's run, and its model."""
    backbone = {"name": "mobilenet_0.25"} | ({"conventions": request.param} if request.param else {})
    config = build_config(DetectionConfig, backbone=backbone, data={"input_size": 96})
    task = DetectionTask.with_num_classes(config, 3)
    model = task.build_model()
    save_best(tmp_path, {"task": task.name, "metadata": dict(task.metadata), "model": model.state_dict()})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config)))
    return tmp_path, model


def test_a_classifier_starts_from_a_detectors_body(run: tuple[Path, Any]) -> None:
    folder, detector = run
    config = build_config(ClassificationConfig, backbone={"name": "mobilenet_0.25", "pretrained": str(folder)})
    classifier = ClassificationTask.with_num_classes(config, 5).build_model()
    assert classifier.backbone.conventions == detector.backbone.conventions
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        ours, theirs = (model.backbone.eval()(images) for model in (classifier, detector))
    torch.testing.assert_close(ours, theirs)


def test_folders_that_are_no_runs_are_named(run: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = run
    config = build_config(ClassificationConfig, backbone={"name": "mobilenet_0.25", "pretrained": str(folder)})
    (folder / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"not a run folder: it has no config\.yaml"):
        ClassificationTask.with_num_classes(config, 5).build_model()
    (folder / "best.pt").unlink()
    with pytest.raises(ValueError, match=r"best\.pt: there is no such checkpoint"):
        ClassificationTask.with_num_classes(config, 5).build_model()
