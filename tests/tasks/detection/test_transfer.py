"""A detector starts from another one: what fits is kept, classes by their names."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.detection.annotated import Categories
from tasks.common.runs.pretrained import adopt_settings, open_pretrained, use_pretrained
from tasks.common.settings import replace_settings
from tasks.common.weights import TaskWeights
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask, _metadata
from tests.tasks.common.test_pretrained import save_run
from tests.tasks.conftest import build_config

MODELS: dict[str, dict[str, Any]] = {
    "ssd": {},
    "sigmoid": {
        "backbone": {"name": "mobilenet_v2_0.25"},
        "ssd": {"finest_map": "expansion", "extra_layers": "separable", "predictor": "full", "scores": "sigmoid"},
    },
    "fpn": {"ssd": {"neck": "fpn", "predictor": "separable"}},
    "fpn_extra_layers": {"ssd": {"neck": "fpn_extra_layers", "predictor": "separable"}},
    "faster_rcnn": {"faster_rcnn": {"anchor_scales": [0.2, 0.5], "num_proposals": 20}},
    "faster_rcnn_fpn": {"faster_rcnn": {"num_proposals": 20}},
}


def build_task(model: str, *class_names: str, pretrained: str = "none", input_size: int = 96) -> DetectionTask:
    config = build_config(
        DetectionConfig,
        pretrained=pretrained,
        data={"input_size": input_size},
        **{"backbone": {"name": "mobilenet_0.25"}} | MODELS[model],
    )
    kind: Any = model if model.startswith("faster_rcnn") else "ssd"
    categories = Categories(tuple(range(1, len(class_names) + 1)), class_names)
    return DetectionTask(dataclasses.replace(config, model=kind), _metadata(categories))


def class_scores(model: str, network: Any) -> torch.Tensor:
    """The logits for one image, background first, of anchors or of regions; faster_rcnn_fpn's probabilities."""
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = network.eval()(images)
    return outputs.class_scores[0] if model == "faster_rcnn_fpn" else outputs.class_logits[0]


@pytest.mark.parametrize("model", MODELS)
def test_the_same_classes_give_the_same_outputs_at_any_input_size(model: str, tmp_path: Path) -> None:
    before = save_run(tmp_path, build_task(model, "cup", "dog"))
    task = build_task(model, "cup", "dog", pretrained=str(tmp_path))
    torch.manual_seed(7)
    after = task.build_model()
    assert before.state_dict().keys() == after.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name
    torch.testing.assert_close(class_scores(model, after), class_scores(model, before))
    build_task(model, "cup", "dog", pretrained=str(tmp_path), input_size=128).build_model()


@pytest.mark.parametrize("model", ["ssd", "fpn", "faster_rcnn"])  # with a background
def test_known_classes_keep_their_outputs_in_another_order_beside_a_new_one(model: str, tmp_path: Path) -> None:
    before = save_run(tmp_path, build_task(model, "cup", "dog", "hat"))
    task = build_task(model, "hat", "new", "cup", pretrained=str(tmp_path))
    after = task.build_model()
    old, new = class_scores(model, before), class_scores(model, after)
    torch.testing.assert_close(new[:, [0, 1, 3]], old[:, [0, 3, 1]])
    assert not torch.allclose(new[:, 2], old[:, 2])
    if model == "faster_rcnn":
        deltas = [
            network.predictor.bbox_pred.weight.view(-1, 4, network.predictor.bbox_pred.in_features)
            for network in (before, after)
        ]
        assert torch.equal(deltas[1][[0, 1, 3]], deltas[0][[0, 3, 1]])


@pytest.mark.parametrize(
    ("run", "model", "kept"),
    [
        ("ssd", "ssd", "the backbone, the neck, the box predictors, the class predictors of 1 of 2 classes"),
        ("fpn", "fpn", "the backbone, the neck, the box predictors, the class predictors of 1 of 2 classes"),
        ("faster_rcnn", "faster_rcnn", "the backbone, the region proposals, the predictors of 1 of 2 classes"),
        (
            "fpn_extra_layers",
            "fpn_extra_layers",
            "the backbone, the neck, the box predictors, the class predictors of 1 of 2 classes",
        ),
        ("ssd", "fpn", "the backbone"),
        ("fpn", "fpn_extra_layers", "the backbone"),
        ("fpn", "ssd", "the backbone"),
        ("ssd", "faster_rcnn", "the backbone"),
    ],
)
def test_a_line_says_what_was_kept(
    run: str, model: str, kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(tmp_path, build_task(run, "cup", "hat", "dog"))
    task, _ = use_pretrained(build_task(model, "dog", "new", pretrained=str(tmp_path)), given=["model", "ssd.neck"])
    line = capsys.readouterr().err
    assert line.startswith(f"weights {tmp_path}, conventions of keras: ")
    assert re.sub(r" \(\d+\)", "", line).endswith(f" tensors are from them: {kept}\n")
    assert line.count("\n") == 1
    task.build_model()


def kept_by(folder: Path, classes: Sequence[str], **settings: Any) -> tuple[Any, dict[str, int]]:
    """The network that starts from the run in a folder with those settings in place of the run's, and what it keeps."""
    task = build_task("sigmoid", *classes, pretrained=str(folder))
    weights = open_pretrained(task.config, task.name)
    assert isinstance(weights, TaskWeights)
    keys = [f"ssd.{name}" for name in settings]
    config = replace_settings(
        adopt_settings(task.config, weights, task.name), dict(zip(keys, settings.values(), strict=True))
    )
    task = task.with_settings(config)
    torch.manual_seed(7)
    return task.build_model(), {re.sub(" of .*", "", part): count for part, count in task.kept(weights).items()}


@pytest.mark.parametrize(
    ("setting", "lost"),
    [
        ({}, set()),
        ({"scores": "softmax"}, {"the class predictors"}),
        ({"anchors": "torchvision"}, {"the class predictors", "the box predictors"}),
        ({"finest_map": "layer"}, {"the class predictors", "the box predictors"}),
        ({"predictor": "pointwise"}, {"the class predictors", "the box predictors"}),
        ({"extra_layers": "full"}, {"the neck", "the class predictors", "the box predictors"}),
    ],
)
def test_a_part_is_kept_only_where_it_means_the_same(setting: dict[str, Any], lost: set[str], tmp_path: Path) -> None:
    before = save_run(tmp_path, build_task("sigmoid", "cup", "dog")).state_dict()
    network, kept = kept_by(tmp_path, ["dog", "cup"], **setting)
    parts = {"the backbone": "backbone", "the neck": "neck", "the box predictors": "box_predictors"}
    assert kept.keys() == (parts.keys() | {"the class predictors"}) - lost
    after = network.state_dict()
    for part, prefix in parts.items():
        names = [name for name in before if name.startswith(f"{prefix}.") and name.endswith("weight")]
        equal = [name in after and torch.equal(after[name], before[name]) for name in names]
        assert all(equal) if part in kept else not all(equal), part


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("fpn", {"ssd.finest_map": "expansion", "ssd.extra_layers": "separable", "ssd.anchors": "torchvision"}),
        ("fpn_extra_layers", {"ssd.extra_layers": "separable", "ssd.anchors": "torchvision"}),
        ("faster_rcnn", {"ssd.neck": "fpn", "ssd.extra_layers": "separable"}),
        ("faster_rcnn_fpn", {"ssd.neck": "fpn", "faster_rcnn.anchor_scales": [0.3]}),
    ],
)
def test_settings_that_do_nothing_in_a_model_drop_nothing(model: str, settings: dict[str, Any], tmp_path: Path) -> None:
    before = save_run(tmp_path, build_task(model, "cup", "dog")).state_dict()
    task = build_task(model, "cup", "dog", pretrained=str(tmp_path))
    task = task.with_settings(replace_settings(task.config, settings))
    after = task.build_model().state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_without_background_and_known_classes_only_shared_layers_of_the_class_predictors_are_kept(
    tmp_path: Path,
) -> None:
    save_run(tmp_path, build_task("sigmoid", "cup", "dog"))
    assert "the class predictors" not in kept_by(tmp_path, ["new", "other"])[1]
    assert kept_by(tmp_path, ["new", "dog"])[1]["the class predictors"] == 12


def test_new_classes_beside_known_ones_start_anew_without_background(tmp_path: Path) -> None:
    before = save_run(tmp_path, build_task("sigmoid", "cup", "dog", "hat"))
    network, _ = kept_by(tmp_path, ["hat", "new", "cup"])
    old, new = class_scores("sigmoid", before), class_scores("sigmoid", network)
    torch.testing.assert_close(new[:, [0, 2]], old[:, [2, 0]])
    assert not any(torch.allclose(new[:, 1], old[:, column]) for column in range(3))


def test_a_run_of_another_task_gives_its_backbone(tmp_path: Path) -> None:
    from tasks.classification.config import ClassificationConfig
    from tasks.classification.task import ClassificationTask

    config = build_config(ClassificationConfig, backbone={"name": "mobilenet_0.25"}, data={"input_size": 96})
    save_run(tmp_path, ClassificationTask.with_num_classes(config, 2))
    task = build_task("ssd", "0", "1", pretrained=str(tmp_path))
    weights = open_pretrained(task.config, task.name)
    assert weights is not None
    assert list(task.kept(weights)) == ["the backbone"]
