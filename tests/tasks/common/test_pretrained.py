"""A run of any task is a pretrained backbone for any other, with its conventions."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tasks.classification.config import ClassificationConfig
from tasks.classification.task import ClassificationTask
from tasks.common.runs.checkpoint import save_best
from tasks.common.runs.pretrained import open_pretrained, use_pretrained
from tasks.common.settings import replace_settings
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask
from tasks.registry import TASKS, config_class, task_class
from tests.tasks.conftest import build_config


def save_run(folder: Path, task: Any) -> Any:
    """Save an untrained model of the task as a run, and return the model."""
    model = task.build_model()
    save_best(folder, {"task": task.name, "metadata": dict(task.metadata), "model": model.state_dict()})
    (folder / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(task.config)))
    return model


@pytest.fixture(params=["timm", None])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """The folder of a detection run, and its model."""
    backbone = {"name": "mobilenet_0.25"} | ({"conventions": request.param} if request.param else {})
    config = build_config(DetectionConfig, backbone=backbone, data={"input_size": 96})
    return tmp_path, save_run(tmp_path, DetectionTask.with_num_classes(config, 3))


def test_a_classifier_starts_from_a_detectors_backbone(run: tuple[Path, Any]) -> None:
    folder, detector = run
    config = build_config(ClassificationConfig, pretrained=str(folder), backbone={"name": "mobilenet_0.25"})
    classifier = ClassificationTask.with_num_classes(config, 5).build_model()
    assert classifier.backbone.conventions == detector.backbone.conventions
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        actual, expected = (model.backbone.eval()(images) for model in (classifier, detector))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("suffix", ["_relu", "_linear", "_early"])
def test_weights_trained_with_other_strides_or_activations_are_refused(run: tuple[Path, Any], suffix: str) -> None:
    """Their names and shapes fit."""
    folder, _ = run
    config = build_config(ClassificationConfig, pretrained=str(folder), backbone={"name": f"mobilenet_0.25{suffix}"})
    with pytest.raises(
        ValueError, match=f"shapes fit mobilenet_0.25{suffix}, but they were trained with other strides"
    ):
        ClassificationTask.with_num_classes(config, 5).build_model()


def test_a_variants_run_brings_its_backbone_along(tmp_path: Path) -> None:
    config = build_config(ClassificationConfig, backbone={"name": "mobilenet_0.25_late_linear_relu"})
    classifier = save_run(tmp_path, ClassificationTask.with_num_classes(config, 5))
    task = ClassificationTask.with_num_classes(build_config(ClassificationConfig, pretrained=str(tmp_path)), 5)
    adopted, is_whole = use_pretrained(task)
    assert is_whole
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(adopted.build_model().eval()(images), classifier.eval()(images))


def test_a_pruned_backbone_is_brought_along_unless_another_is_named(tmp_path: Path) -> None:
    backbone = {"name": "mobilenet_0.25", "channels": [5, *range(8, 21)]}
    config = build_config(DetectionConfig, backbone=backbone, data={"input_size": 96})
    save_run(tmp_path, DetectionTask.with_num_classes(config, 3))
    task = ClassificationTask.with_num_classes(build_config(ClassificationConfig, pretrained=str(tmp_path)), 5)
    adopted, _ = use_pretrained(task)
    assert adopted.config.backbone.channels == (5, *range(8, 21))
    assert adopted.build_model().head.in_features == 20
    with pytest.raises(ValueError, match="but the backbone has width 1"):
        use_pretrained(task, given={"backbone.name"})


@pytest.mark.parametrize("name", TASKS)
def test_class_names_are_those_of_a_classifier(name: str, tmp_path: Path) -> None:
    """A detector has class names too, but no classifier with a row for each."""
    config = build_config(config_class(name), backbone={"name": "mobilenet_0.25"}, data={"input_size": 96})
    save_run(tmp_path, task_class(name).with_num_classes(config, 3))
    pretrained = build_config(ClassificationConfig, pretrained=str(tmp_path), backbone={"name": "mobilenet_0.25"})
    weights = open_pretrained(pretrained, "classification")
    assert weights is not None
    assert weights.class_names == (("0", "1", "2") if name == "classification" else ())
    ClassificationTask.with_num_classes(pretrained, 5).build_model()


@pytest.mark.parametrize(
    ("class_names", "kept"),
    [
        (["cat", "new", "dog"], "the backbone (135), the classifier of 2 of 3 classes (2)"),
        (["new", "other"], "the backbone (135)"),
    ],
)
def test_a_line_says_which_classes_a_classifier_keeps(
    class_names: list[str], kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = build_config(ClassificationConfig, backbone={"name": "mobilenet_0.25"}, data={"input_size": 96})
    before = save_run(tmp_path, ClassificationTask(config, {"data": "folder", "class_names": ["dog", "cat"]}))
    pretrained = build_config(ClassificationConfig, pretrained=str(tmp_path), backbone={"name": "mobilenet_0.25"})
    task, _ = use_pretrained(ClassificationTask(pretrained, {"data": "folder", "class_names": class_names}))
    assert capsys.readouterr().err.endswith(f" tensors are from them: {kept}\n")
    if "cat" in class_names:
        assert torch.equal(task.build_model().head.weight[[0, 2]], before.head.weight[[1, 0]])


def test_folders_that_are_no_runs_are_named(run: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = run
    config = build_config(ClassificationConfig, pretrained=str(folder), backbone={"name": "mobilenet_0.25"})
    of_file = replace_settings(config, {"pretrained": str(folder / "best.pt")})
    with pytest.raises(ValueError, match=r"best\.pt: a checkpoint without .*; give the run folder, "):
        ClassificationTask.with_num_classes(of_file, 5).build_model()
    (folder / "best.pt").unlink()
    with pytest.raises(ValueError, match=r"best\.pt: no such checkpoint"):
        ClassificationTask.with_num_classes(config, 5).build_model()
    (folder / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"not a run folder: it has no config\.yaml"):
        ClassificationTask.with_num_classes(config, 5).build_model()
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="an exported network, which --run takes; expected the run"):
        ClassificationTask.with_num_classes(config, 5).build_model()
