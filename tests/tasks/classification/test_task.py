"""Which classifier rows are loaded, and the errors if they do not match."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torchvision.models import mobilenet_v2, mobilenet_v3_small

from datasets.images.read import write_image
from tasks.classification.config import ClassificationConfig
from tasks.classification.task import ClassificationTask
from tasks.common.runs.pretrained import open_pretrained
from tests.tasks.conftest import build_config


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in timm's format."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    safetensors.torch.save_file(timm.create_model("mobilenetv1_100").state_dict(), path)
    return path


def imagenet(root: Path, num_classes: int = 1000) -> Path:
    """A folder in ImageNet's layout with images of two classes."""
    for class_id in (4, 7):
        folder = root / "val" / f"n{class_id:04d}"
        folder.mkdir(parents=True)
        write_image(folder / "1.jpg", np.full((40, 50, 3), 20 * class_id, np.uint8))
    (root / "classes.txt").write_text("".join(f"n{k:04d} thing {k}\n" for k in range(num_classes)))
    return root


def config_for(pretrained: Path, **data: Any) -> ClassificationConfig:
    backbone = {"name": "mobilenet_1.0"}
    config: ClassificationConfig = build_config(
        ClassificationConfig, pretrained=str(pretrained), backbone=backbone, data={"input_size": 64, **data}
    )
    return config


def from_pretrained(config: ClassificationConfig) -> ClassificationTask:
    weights = open_pretrained(config, "classification")
    assert weights is not None
    return ClassificationTask.from_pretrained(config, weights)


def test_published_classifier_is_used_for_imagenet(published: Path, tmp_path: Path) -> None:
    head = safetensors.torch.load_file(published)["classifier.weight"]
    config = config_for(published, root=str(imagenet(tmp_path)), format="imagenet")
    task = from_pretrained(config)
    assert torch.equal(task.build_model().head.weight, head)
    source = task.source("val")
    assert [source.truth(row).class_id for row in range(len(source))] == [4, 7]
    assert task.class_names[7] == "thing 7"


def test_published_classifier_has_imagenets_class_names_without_data(published: Path) -> None:
    task = from_pretrained(config_for(published))
    assert len(task.class_names) == 1000
    assert task.class_names[:2] == ["tench", "goldfish"]
    model = task.build_model().eval()
    with torch.inference_mode():
        (predicted,) = task.decode(model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)))
    record = task.describe(predicted, (64, 64))["classes"]
    assert len(record) == 5
    assert record[0]["probability"] >= record[4]["probability"]


@pytest.mark.parametrize(("format", "num_classes"), [("imagenet", 120), ("folder", 1000)])
def test_published_classifier_of_other_classes_is_refused(
    published: Path, tmp_path: Path, format: str, num_classes: int
) -> None:
    root = imagenet(tmp_path, num_classes)
    shutil.copytree(root / "val", root / "train")
    with pytest.raises(
        ValueError, match=r"has 1000 classes, and 0 of the dataset's (120|2) are among them.* train first"
    ):
        from_pretrained(config_for(published, root=str(root), format=format))


def test_other_classes_get_a_new_head(published: Path, generated_roots: Any) -> None:
    root = str(generated_roots("classification"))
    task = ClassificationTask.from_data(config_for(published, root=root, format="stanford_dogs"))
    model = task.build_model()
    stem = safetensors.torch.load_file(published)["conv_stem.weight"]
    assert model.head.weight.shape == (16, 1024)
    assert torch.equal(model.backbone.layers[0].conv.weight, stem)  # type: ignore[union-attr]
    assert model.backbone.layers[0].bn.eps == 1e-5  # type: ignore[union-attr]  # timm's


def test_classes_with_the_same_name_load_their_published_rows(published: Path, tmp_path: Path) -> None:
    """Matched by name in any order; "cardigan" is the garment, "Cardigan" the dog."""
    for split in ("train", "val"):
        for name in ("Cardigan", "cardigan", "my own", "tench"):
            (tmp_path / split / name).mkdir(parents=True)
            write_image(tmp_path / split / name / "1.jpg", np.zeros((40, 50, 3), np.uint8))
    config = config_for(published, root=str(tmp_path))
    state = safetensors.torch.load_file(published)
    head = ClassificationTask.from_data(config).build_model().head
    for class_id, row in ((0, 264), (1, 474), (3, 0)):
        assert torch.equal(head.weight[class_id], state["classifier.weight"][row])
        assert torch.equal(head.bias[class_id], state["classifier.bias"][row])
    with pytest.raises(ValueError, match="1000 classes, and 3 of the dataset's 4 are among them"):
        from_pretrained(config)
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / split / "my own")
    assert from_pretrained(config).class_names == ["Cardigan", "cardigan", "tench"]


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0", "mobilenet_v3_small_1.0"])
def test_rows_of_torchvisions_heads_load_too(name: str, tmp_path: Path) -> None:
    network = {"mobilenet_v2_1.0": mobilenet_v2, "mobilenet_v3_small_1.0": mobilenet_v3_small}[name]()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    config = build_config(
        ClassificationConfig,
        pretrained=str(tmp_path / "weights.pth"),
        backbone={"name": name},
        data={"input_size": 64},
    )
    model = ClassificationTask(config, {"data": "folder", "class_names": ["goldfish", "new", "tench"]}).build_model()
    last = network.classifier[-1]
    assert torch.equal(model.head[-1].weight[[0, 2]], last.weight[[1, 0]])  # type: ignore[index]
    if name == "mobilenet_v3_small_1.0":
        assert torch.equal(model.head[0].weight, network.classifier[0].weight)  # type: ignore[index]


def test_conventions_that_conflict_with_the_weights_are_refused(published: Path) -> None:
    config = build_config(
        ClassificationConfig, pretrained=str(published), backbone={"name": "mobilenet_1.0", "conventions": "keras"}
    )
    with pytest.raises(ValueError, match=r"backbone\.conventions: keras, but the weights .* need timm"):
        ClassificationTask.with_num_classes(config, 10).build_model()


def test_data_with_other_classes_are_refused(generated_roots: Any) -> None:
    config = build_config(
        ClassificationConfig, data={"root": str(generated_roots("classification")), "format": "stanford_dogs"}
    )
    with pytest.raises(
        ValueError, match=r"data have 16 classes \(Round plain, .*\), but the model has 3 classes \(a, b, c"
    ):
        ClassificationTask(config, {"data": "folder", "class_names": ["a", "b", "c"]}).source("val")


@pytest.mark.data
def test_real_weights_through_the_task(shared: Path) -> None:
    """Top-1 and top-5 of ../shared/weights/README.md, with its crop and resize filter."""
    from tasks.common.evaluation.evaluate import evaluate, evaluation_loader

    config = build_config(
        ClassificationConfig,
        pretrained=str(shared / "weights" / "mobilenet_5_0_160_tf.h5"),
        backbone={"name": "mobilenet_0.5"},
        data={"root": str(shared / "data" / "imagenet_sample"), "format": "imagenet", "input_size": 160},
    )
    task = from_pretrained(config)
    evaluation = evaluate(task, task.build_model(), evaluation_loader(task, task.source("val"), 50))
    scores = evaluation.scores
    assert scores["top1"] == pytest.approx(0.680, abs=0.003)
    assert scores["top5"] == pytest.approx(0.872, abs=0.003)


def test_weights_without_a_classifier_are_refused(tmp_path: Path) -> None:
    state = {k: v for k, v in timm.create_model("mobilenetv1_100").state_dict().items() if "classifier" not in k}
    safetensors.torch.save_file(state, tmp_path / "body.safetensors")
    with pytest.raises(ValueError, match=r"body\.safetensors has no classifier; train one"):
        from_pretrained(config_for(tmp_path / "body.safetensors"))
