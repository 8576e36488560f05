"""torchvision's published segmentation networks: files with random weights, against torchvision's own networks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.segmentation import DeepLabV3_MobileNet_V3_Large_Weights, LRASPP_MobileNet_V3_Large_Weights

from datasets.segmentation.files import VOC_CLASSES
from tasks.common.published import PUBLISHED_MODELS
from tasks.common.runs.load import load_model
from tasks.common.runs.pretrained import open_pretrained
from tasks.common.settings import replace_settings
from tasks.common.weights import TaskWeights
from tasks.detection.task import DetectionTask
from tasks.segmentation.config import SegmentationConfig
from tasks.segmentation.layers import resize_map
from tasks.segmentation.task import SegmentationTask
from tests.networks import randomise_bn

WEIGHTS: dict[str, Any] = {
    "lraspp_mobilenet_v3_large": LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
    "deeplabv3_mobilenet_v3_large": DeepLabV3_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
}
LRASPP, DEEPLAB = WEIGHTS


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """A file of torchvision's network with random weights, and the network."""
    made: dict[str, tuple[Path, Any]] = {}

    def make(name: str) -> tuple[Path, Any]:
        if name not in made:
            torch.manual_seed(0)
            more = {"aux_loss": True} if name == DEEPLAB else {}
            network: Any = get_model(name, weights=None, weights_backbone=None, **more).eval()
            randomise_bn(network)
            path = tmp_path_factory.mktemp(name) / WEIGHTS[name].url.rpartition("/")[2]
            torch.save(network.state_dict(), path)
            made[name] = path, network
        return made[name]

    return make


def opened(path: Path) -> tuple[SegmentationTask, Any]:
    """As the commands open it."""
    return load_model(SegmentationTask, replace_settings(SegmentationConfig(), {"pretrained": str(path)}), None)


def dropout_rates(network: nn.Module) -> list[float]:
    return [module.p for module in network.modules() if isinstance(module, nn.Dropout)]


@pytest.mark.parametrize("name", WEIGHTS)
@torch.no_grad()
def test_logits_equal_those_of_torchvision(name: str, published: Any) -> None:
    """Those of the auxiliary head, too, and dropout in training; no weight is left over or missing."""
    path, theirs = published(name)
    task, ours = opened(path)
    assert task.class_names == ["background", *WEIGHTS[name].meta["categories"][1:]]
    assert [task.config.data.input_size] == WEIGHTS[name].transforms().resize_size
    weights = task.read_published(path)
    assert weights is not None
    network = SegmentationTask(replace_settings(task.config, {"pretrained": "none"}), task.metadata).build_model()
    network.load_state_dict(weights.state)
    assert dropout_rates(network) == dropout_rates(theirs)
    images = torch.randint(0, 256, (2, 3, 97, 131), dtype=torch.uint8)
    expected = theirs(ours.backbone.normalize(images))
    logits: dict[str, Tensor] = {"out": ours(images).logits}
    if network.auxiliary_head is not None:
        logits["aux"] = network.eval().auxiliary_head(network.backbone.features(images))
    assert logits.keys() == expected.keys()
    for output in expected:
        assert expected[output].std() > 0.1
        torch.testing.assert_close(resize_map(logits[output], (97, 131)), expected[output], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_table_says_what_torchvision_says(name: str) -> None:
    (row,) = [row for row in PUBLISHED_MODELS if row.name == name]
    assert row.task == "segmentation"
    assert row.url == WEIGHTS[name].url
    assert row.sha256 is not None
    assert row.file.endswith(f"-{row.sha256[:8]}.pth")
    miou = WEIGHTS[name].meta["_metrics"]["COCO-val2017-VOC-labels"]["miou"]
    assert f"mIoU 0.{miou * 10:.0f} " in row.score


CHANGES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "part": (DEEPLAB, lambda state: state.pop("backbone.16.0.weight"), "not the whole network: it has no backbone."),
    "more": (LRASPP, lambda state: state.update(x=torch.zeros(1)), "made for another network: unexpected weight x"),
    "a layer more": (
        LRASPP,
        lambda state: state.update({"backbone.17.0.weight": torch.zeros(1)}),
        "made for another network: unexpected weight backbone.layers.17.0.weight",
    ),
    "nan": (DEEPLAB, lambda state: state["classifier.4.bias"].fill_(torch.nan), "damaged: classifier.4.bias has val"),
    "wider": (
        LRASPP,
        lambda state: state.update({"classifier.cbr.0.weight": torch.zeros(64, 960, 1, 1)}),
        "made for another network: decode_head.project.conv.weight is (64, 960, 1, 1), but (128, 960, 1, 1) is exp",
    ),
    "ResNet": (
        DEEPLAB,
        lambda state: state.update({"backbone.conv1.weight": state.pop("backbone.0.0.weight")}),
        "not one of torchvision's networks on MobileNet v3 large: it has no backbone.0.0.weight",
    ),
    "classes": (
        LRASPP,
        lambda state: state.update({"classifier.high_classifier.weight": torch.zeros(3, 128, 1, 1)}),
        "expected a network for Pascal VOC, with 21 outputs, but it has 3",
    ),
}


@pytest.mark.parametrize(("name", "change", "problem"), CHANGES.values(), ids=CHANGES)
def test_a_file_of_a_part_or_of_another_network_is_refused(
    name: str, change: Callable[[Any], Any], problem: str, published: Any, tmp_path: Path
) -> None:
    state = {key: value.clone() for key, value in published(name)[1].state_dict().items()}
    change(state)
    path = tmp_path / "changed.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=rf"^{re.escape(f'{path}: {problem}')}[^\n]*$"):
        SegmentationTask.read_published(path)


def test_networks_of_other_tasks_are_left_to_them(published: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    for name in ("mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"):
        torch.save(get_model(name, weights=None, weights_backbone=None).state_dict(), path)
        assert SegmentationTask.read_published(path) is None
    assert DetectionTask.read_published(published(LRASPP)[0]) is None


def test_fine_tuning_keeps_the_backbone_and_the_classes_of_these_names(published: Any) -> None:
    path, _ = published(DEEPLAB)
    config = replace_settings(SegmentationConfig(), {"pretrained": str(path), "head": "deeplabv3"})
    config = replace_settings(config, {"backbone.name": "mobilenet_v3_large_1.0", "auxiliary_weight": 0.5})
    weights = open_pretrained(config, "segmentation")
    assert isinstance(weights, TaskWeights)
    task = SegmentationTask(config, {"class_names": ["person", "pavement"]})
    assert list(task.kept(weights)) == [
        "the backbone",
        "the head with 1 of 2 classes",
        "the auxiliary head with 1 of 2 classes",
    ]
    state = task.build_model().state_dict()
    for name in ("decode_head.classifier.weight", "auxiliary_head.classifier.bias"):
        assert torch.equal(state[name][0], weights.state[name][VOC_CLASSES.index("person")])
