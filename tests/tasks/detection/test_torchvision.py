"""torchvision's published detectors: files with random weights, against torchvision's own networks."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_MobileNet_V3_Large_FPN_Weights,
    SSDLite320_MobileNet_V3_Large_Weights,
)
from torchvision.ops import FrozenBatchNorm2d, box_convert, box_iou

from backbone.names import parse_name
from datasets.detection.annotated import Categories
from datasets.types import Detections
from tasks.common.published import PUBLISHED_MODELS
from tasks.common.runs.load import load_model
from tasks.common.runs.pretrained import adopt_settings, open_pretrained, use_pretrained
from tasks.common.settings import replace_settings
from tasks.common.weights import TaskWeights
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask, _metadata

WEIGHTS: dict[str, Any] = {
    "ssdlite320_mobilenet_v3_large": SSDLite320_MobileNet_V3_Large_Weights.COCO_V1,
    "fasterrcnn_mobilenet_v3_large_320_fpn": FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
    "fasterrcnn_mobilenet_v3_large_fpn": FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
}
SSDLITE, FASTER_RCNN, LARGE = WEIGHTS
CATEGORIES: list[str] = WEIGHTS[SSDLITE].meta["categories"]
IDS = [index for index, name in enumerate(CATEGORIES) if name not in ("__background__", "N/A")]
GAPS = [index for index, name in enumerate(CATEGORIES) if name == "N/A"]


def torchvision_network(name: str, num_classes: int = 91) -> Any:
    """torchvision's network with random weights and statistics; it finds no category without a name."""
    torch.manual_seed(0)
    network: Any = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    if hasattr(network, "roi_heads"):
        predictor, rpn = network.roi_heads.box_predictor, network.rpn.head
        class_layers, box_layers = [predictor.cls_score], [predictor.bbox_pred, rpn.cls_logits, rpn.bbox_pred]
    else:
        heads = network.head.classification_head, network.head.regression_head
        class_layers, box_layers = ([module[1] for module in head.module_list] for head in heads)
    for layer in (*class_layers, *box_layers):  # scores far from those by chance, and boxes of all sizes
        nn.init.normal_(layer.weight, std=10 / layer.weight[0].numel() ** 0.5)
        nn.init.normal_(layer.bias, std=0.5)
    if num_classes == 91:
        for layer in class_layers:
            layer.bias.data.view(-1, 91)[:, GAPS] = -1e4
    return network


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    made: dict[str, tuple[Path, Any]] = {}

    def make(name: str) -> tuple[Path, Any]:
        if name not in made:
            path = tmp_path_factory.mktemp(name) / WEIGHTS[name].url.rpartition("/")[2]
            network = torchvision_network(name)
            torch.save(network.state_dict(), path)
            made[name] = path, network
        return made[name]

    return make


def opened(path: Path) -> tuple[DetectionTask, Any]:
    """As the commands open it."""
    config = replace_settings(DetectionConfig(), {"pretrained": str(path)})
    weights = open_pretrained(config, "detection")
    assert isinstance(weights, TaskWeights)
    config = replace_settings(adopt_settings(config, weights, "detection"), {"pretrained": "none"})
    task = DetectionTask.from_pretrained(config, weights)
    network = task.build_model()
    network.load_state_dict(weights.state)
    return task, network.eval()


def random_images(side: int, count: int = 2) -> Tensor:
    """Smooth pictures, since the layers answer noise with next to nothing."""
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(noise, (side, side), mode="bicubic") * 255).clamp(0, 255).byte()


def assert_same_detections(ours: Detections, theirs: dict[str, Tensor]) -> None:
    """The same scores in the same order, and for each box one of theirs of the same class and score."""
    assert ours.scores is not None
    np.testing.assert_allclose(ours.scores, theirs["scores"].numpy(), atol=1e-4)
    assert len(ours) > 20
    labels, ids = theirs["labels"].numpy(), np.array(IDS)[ours.class_ids]
    for box, category_id, score in zip(ours.boxes_xyxy, ids, ours.scores, strict=True):
        alike = (labels == category_id) & (abs(theirs["scores"].numpy() - score) < 1e-4)
        assert box_iou(torch.from_numpy(box)[None], theirs["boxes"][alike].float()).max() > 0.999


@torch.no_grad()
def test_ssdlites_raw_outputs_anchors_and_detections_are_torchvisions(published: Any) -> None:
    path, theirs = published(SSDLITE)
    task, network = opened(path)
    images = random_images(320)
    outputs = network(images)

    pixels, _ = theirs.transform(list(images / 255))
    maps = list(theirs.backbone(pixels.tensors).values())
    expected, anchors = theirs.head(maps), theirs.anchor_generator(pixels, maps)[0]
    torch.testing.assert_close(outputs.class_logits, expected["cls_logits"][..., [0, *IDS]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs.box_deltas, expected["bbox_regression"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(box_convert(outputs.anchors, "cxcywh", "xyxy") * 320, anchors, atol=1e-4, rtol=1e-5)
    assert expected["cls_logits"][..., IDS].std() > 0.1

    theirs = copy.deepcopy(theirs).double()  # in which near ties have the same order in both
    theirs.topk_candidates, theirs.score_thresh = len(anchors), 0.02
    config = replace_settings(task.config, {"score_threshold": 0.02, "max_detections": 300})
    assert config.nms_iou == theirs.nms_thresh
    for detections, reference in zip(
        task.with_settings(config).decode(network.double()(images)), theirs(list(images.double() / 255)), strict=True
    ):
        assert_same_detections(detections, reference)


@pytest.mark.parametrize("name", [FASTER_RCNN, LARGE])
@torch.no_grad()
def test_faster_rcnns_regions_and_detections_are_torchvisions(name: str, published: Any) -> None:
    path, theirs = published(name)
    task, network = opened(path)
    theirs, network = copy.deepcopy(theirs).double(), network.double()  # in which near ties have the same order in both
    assert task.config.data.input_size == theirs.transform.min_size[0]
    side = task.config.data.input_size
    images = random_images(side, 1 if name == LARGE else 2)
    outputs = network(images)
    seen: list[Any] = []
    handle = theirs.rpn.register_forward_hook(lambda _module, _inputs, result: seen.append(result[0]))
    theirs.roi_heads.score_thresh = 0.0125  # about that of a class by chance
    references = theirs(list(images.double() / 255))
    handle.remove()
    config = replace_settings(task.config, {"score_threshold": 0.0125})
    pairs = zip(task.with_settings(config).decode(outputs), references, outputs.regions_xyxy, seen[0], strict=True)
    for detections, reference, regions, expected in pairs:
        torch.testing.assert_close(regions[: len(expected)] * side, expected, atol=1e-2, rtol=1e-4)
        assert not regions[len(expected) :].any()
        assert_same_detections(detections, reference)


def test_files_older_than_the_names_of_todays_convolutions_and_frozen_norms_are_the_same(
    published: Any, tmp_path: Path
) -> None:
    path, theirs = published(FASTER_RCNN)
    renamed = {
        re.sub(r"(rpn\.head\.conv)\.0\.0\.|((?:inner|layer)_blocks\.\d)\.0\.", r"\1\2.", name): value
        for name, value in theirs.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "rpn.head.conv.weight" in renamed
    assert "backbone.fpn.inner_blocks.0.weight" in renamed
    torch.save(renamed, tmp_path / "old.pth")
    new, old = (DetectionTask.read_published(file) for file in (path, tmp_path / "old.pth"))
    assert new is not None
    assert old is not None
    assert new.state.keys() == old.state.keys()
    assert all(torch.equal(value, old.state[name]) for name, value in new.state.items())


def test_epsilon_of_norms_is_that_of_torchvisions_frozen_ones(published: Any) -> None:
    _, network = opened(published(FASTER_RCNN)[0])
    assert {norm.eps for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)} == {FrozenBatchNorm2d(1).eps}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_table_says_what_torchvision_says(name: str) -> None:
    (row,) = [row for row in PUBLISHED_MODELS if row.name == name]
    weights = WEIGHTS[name]
    assert row.url == weights.url
    assert row.sha256 is not None
    assert row.file.endswith(f"-{row.sha256[:8]}.pth")
    assert f"AP 0.{weights.meta['_metrics']['COCO-val2017']['box_map'] * 10:.0f} " in row.score


@pytest.mark.parametrize("name", [SSDLITE, FASTER_RCNN])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.9, 0.9999])
def test_a_truncated_file_is_refused_in_one_line(name: str, fraction: float, published: Any, tmp_path: Path) -> None:
    content = published(name)[0].read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: not a readable file of weights [^\n]+$"):
        DetectionTask.read_published(path)


_NORM = "backbone.extra.2.1.1.bias"
CHANGES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "part": (
        SSDLITE,
        lambda state: state.pop(_NORM),
        "not the whole network: it has no neck.extras.2.1.depthwise.bn.b",
    ),
    "part of two": (
        FASTER_RCNN,
        lambda state: state.pop("rpn.head.cls_logits.bias"),
        "not the whole network: it has no",
    ),
    "more": (SSDLITE, lambda state: state.update(x=torch.zeros(1)), "made for another network: unexpected weight x"),
    "nan": (SSDLITE, lambda state: state[_NORM].fill_(torch.nan), f"damaged: {_NORM} has values"),
    "wider": (SSDLITE, lambda state: state.update({_NORM: torch.zeros(7)}), "made for another network: neck.extras.2"),
}


@pytest.mark.parametrize(("name", "change", "problem"), CHANGES.values(), ids=CHANGES)
def test_a_file_of_a_part_or_with_more_is_refused(
    name: str, change: Callable[[Any], Any], problem: str, published: Any, tmp_path: Path
) -> None:
    state = {key: value.clone() for key, value in published(name)[1].state_dict().items()}
    change(state)
    path = tmp_path / "changed.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: {re.escape(problem)}[^\n]*$"):
        DetectionTask.read_published(path)


def test_other_networks_are_refused_in_one_line_or_left_to_others(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    for name, num_classes, problem in (
        (SSDLITE, 5, "expected a network for COCO, with 91 outputs, but it has 5"),
        (FASTER_RCNN, 5, "expected a network for COCO, with 91 outputs, but it has 5"),
        ("fasterrcnn_resnet50_fpn", 91, "not one of torchvision's detectors on MobileNet v3 large: it has neither"),
    ):
        torch.save(get_model(name, weights=None, weights_backbone=None, num_classes=num_classes).state_dict(), path)
        with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: {problem}[^\n]*$"):
            DetectionTask.read_published(path)
    torch.save(get_model("mobilenet_v3_large").state_dict(), path)
    assert DetectionTask.read_published(path) is None
    config = replace_settings(DetectionConfig(), {"pretrained": str(path), "backbone.name": "mobilenet_v3_large_1.0"})
    assert type(open_pretrained(config, "detection")) is not TaskWeights  # a backbone to start from
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: has no outputs of tasks.detection"):
        load_model(DetectionTask, replace_settings(DetectionConfig(), {"pretrained": str(path)}), None)


def tuned(path: Path, *class_names: str) -> DetectionTask:
    categories = Categories(tuple(range(1, len(class_names) + 1)), class_names)
    task = DetectionTask(replace_settings(DetectionConfig(), {"pretrained": str(path)}), _metadata(categories))
    return use_pretrained(task)[0]


@pytest.mark.parametrize("name", [SSDLITE, FASTER_RCNN])
def test_fine_tuning_keeps_known_classes_and_all_else(
    name: str, published: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = published(name)
    task = tuned(path, "dog", "helmet", "cat")
    line = re.sub(r" \(\d+\)", "", capsys.readouterr().err)
    parts = "the neck, the box predictors, the class predictors"
    if name == FASTER_RCNN:
        parts = "the neck, the region proposals, the layers of the regions, the predictors"
    assert line.endswith(f"tensors are from them: the backbone, {parts} of 2 of 3 classes\n")
    network, (_, before) = task.build_model(), opened(path)
    state, source = network.state_dict(), before.state_dict()
    layouts: dict[str, tuple[int, int]] = network.class_layouts()  # type: ignore[operator]
    assert state.keys() == source.keys()
    names = DetectionTask.read_published(path).metadata["class_names"]  # type: ignore[union-attr]
    known = [0, 1 + names.index("dog"), 1 + names.index("cat")]
    for key, value in state.items():
        if key not in layouts:
            assert torch.equal(value, source[key]), key
            continue
        head, tail = layouts[key]
        ours, theirs = (tensor.view(head, -1, tail, *tensor.shape[1:]) for tensor in (value, source[key]))
        assert torch.equal(ours[:, [0, 1, 3]], theirs[:, known]), key
        assert all(not torch.equal(ours[:, 2], theirs[:, row]) for row in range(theirs.shape[1])), key
    if name == SSDLITE:
        with torch.no_grad():
            network.eval()
            logits, expected = (net(random_images(320)).class_logits for net in (network, before))
        torch.testing.assert_close(logits[..., [0, 1, 3]], expected[..., known], atol=1e-4, rtol=1e-4)


def test_classes_that_share_nothing_with_the_model_keep_the_background(
    published: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned(published(FASTER_RCNN)[0], "helmet")
    assert "the predictors of 0 of 1 classes" in capsys.readouterr().err


def test_faster_rcnn_fpn_takes_multiples_of_32(published: Any) -> None:
    with pytest.raises(ValueError, match=r"^data.input_size: expected a multiple of 32 with faster_rcnn_fpn"):
        replace_settings(DetectionConfig(), {"model": "faster_rcnn_fpn", "data.input_size": 300})


def test_the_backbone_of_ssdlite_is_named_by_its_reduced_tail(published: Any) -> None:
    task, _ = opened(published(SSDLITE)[0])
    assert parse_name(task.config.backbone.name).variant == "reduced"
