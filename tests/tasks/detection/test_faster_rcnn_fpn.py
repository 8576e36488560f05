"""Faster R-CNN with a feature pyramid: its losses and its files; its outputs are in test_torchvision.py."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from backbone.base import Backbone
from backbone.build import build_backbone
from backbone.layers import KERAS
from backbone.mobilenet import MobileNet
from tasks.common.deploy.difference import largest_difference
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.formats.source import ConversionSource
from tasks.common.deploy.onnx_file import ExportedNetwork, write_onnx
from tasks.common.deploy.postprocessing import append_graph
from tasks.common.deploy.session import INPUT
from tasks.detection.config import DetectionConfig
from tasks.detection.faster_rcnn_fpn import (
    CROP_CELLS,
    LOSSES,
    PYRAMID_CHANNELS,
    FasterRCNNFPN,
    RegionOutputs,
    decode_region_outputs,
    region_loss,
)
from tasks.detection.matching import DetectionTargets
from tasks.detection.onnx_postprocess import region_postprocessing
from tasks.detection.postprocess import PostprocessConfig
from tasks.detection.task import DetectionTask
from tasks.detection.torchvision import _faster_rcnn_name
from tests.tasks.detection.objects import NO_OBJECTS, NUM_CLASSES, random_truth, targets_of

CONFIG = PostprocessConfig(96, 0.01, 0.5, 30)
EXPORTED_LAYERS = (0, 1, 2, 4, 6, 12, 13)  # of MobileNet v1: those that change the channels, since others take time
NAMES = ["mobilenet_0.25", "mobilenet_v2_0.35", "mobilenet_v3_small_0.5", "mobilenet_v3_large_0.5"]


def random_images(num_images: int, size: int = 96) -> Tensor:
    return torch.randint(0, 256, (num_images, 3, size, size), dtype=torch.uint8)


def losses_of(network: Any, images: Tensor, targets: DetectionTargets) -> dict[str, Tensor]:
    return region_loss(network.train()(images, targets), targets)


def test_losses_are_those_of_torchvisions_network(rng: np.random.Generator) -> None:
    """In double precision and with the same seed just before the regions, since torchvision samples at random."""
    theirs: Any = get_model(
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        weights=None,
        weights_backbone=None,
        num_classes=NUM_CLASSES + 1,
        box_batch_size_per_image=16,
        min_size=96,
    )
    ours = FasterRCNNFPN(
        build_backbone("mobilenet_v3_large_1.0", "torchvision_faster_rcnn"), NUM_CLASSES, num_sampled=16
    )
    state = {_faster_rcnn_name(name): value for name, value in theirs.state_dict().items()}
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("backbone.normalize.") for name in missing)
    truth, seeds, images = random_truth(rng, 3, 1, 0), [5, 6, 7], random_images(3)

    def seed(*_: Any) -> None:
        torch.manual_seed(sum(seeds))

    theirs.rpn.register_forward_pre_hook(seed)
    objects = [
        {"boxes": torch.from_numpy(t.boxes_xyxy).double(), "labels": torch.from_numpy(t.class_ids) + 1} for t in truth
    ]
    expected = theirs.double().train()(list(images.double() / 255), objects)
    losses = losses_of(ours.double(), images, targets_of(truth, seeds))
    for name, value in expected.items():
        assert losses[LOSSES[name]].item() == pytest.approx(value.item(), rel=1e-4)
        assert value > 0
    assert losses["total"].item() == pytest.approx(sum(value.item() for value in expected.values()), rel=1e-4)


def test_losses_depend_on_the_seeds_and_leave_the_global_generator_alone(rng: np.random.Generator) -> None:
    network, images = FasterRCNNFPN(build_backbone(NAMES[0]), NUM_CLASSES), random_images(2)
    truth, state = random_truth(rng, 3, 2), torch.get_rng_state()
    totals = [losses_of(network, images, targets_of(truth, seeds))["total"] for seeds in ([1, 2], [1, 2], [1, 3])]
    assert torch.equal(torch.get_rng_state(), state)
    assert totals[0] == totals[1] != totals[2]


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_trains_and_predicts(name: str, rng: np.random.Generator) -> None:
    network, images = FasterRCNNFPN(build_backbone(name), NUM_CLASSES, num_proposals=20), random_images(2)
    losses_of(network, images, targets_of(random_truth(rng, 3, 0)))["total"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with torch.no_grad():
        outputs = network.eval()(images)
    num_regions = outputs.regions_xyxy.shape[1]
    assert 0 < num_regions <= 20
    assert outputs.class_scores.shape == (2, num_regions, NUM_CLASSES)
    assert outputs.box_deltas.shape == (2, num_regions, NUM_CLASSES + 1, 4)
    assert len(decode_region_outputs(outputs, PostprocessConfig(96, 0.01, 0.5, 100))) == 2


def test_images_without_objects_train_background() -> None:
    network = FasterRCNNFPN(build_backbone(NAMES[0]), NUM_CLASSES)
    losses = losses_of(network, random_images(2), targets_of([NO_OBJECTS, NO_OBJECTS]))
    assert losses["proposals"] == losses["boxes"] == 0
    losses["total"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


@torch.no_grad()
def test_an_image_has_the_same_detections_beside_others_with_more_regions() -> None:
    network = FasterRCNNFPN(build_backbone(NAMES[0]), NUM_CLASSES, num_proposals=40).eval()
    network.roi_heads.box_predictor.cls_score.weight.mul_(20)
    images = random_images(3)
    images[1] = 0
    config, together = PostprocessConfig(96, 0.01, 0.5, 100), network(images)
    for row, detections in enumerate(decode_region_outputs(together, config)):
        alone = network(images[row : row + 1])
        count = alone.regions_xyxy.shape[1]
        assert not together.class_scores[row, count:].any()
        (expected,) = decode_region_outputs(alone, config)
        np.testing.assert_allclose(detections.scores, expected.scores, atol=1e-5)
        assert len(expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_and_predicts(dtype: torch.dtype, rng: np.random.Generator) -> None:
    network, images = FasterRCNNFPN(build_backbone(NAMES[0]), NUM_CLASSES), random_images(2)
    with torch.autocast("cpu", dtype):
        losses = losses_of(network, images, targets_of(random_truth(rng, 3, 0)))
        outputs = network.eval()(images)
    assert all(value.isfinite() for value in losses.values())
    assert outputs.class_scores.isfinite().all()


@pytest.fixture(scope="module")
def network() -> FasterRCNNFPN:
    """Random boxes and scores, and no region in a grey image, whose pixels are nearly zero when they are normalised."""
    torch.manual_seed(0)
    layers = MobileNet(0.25).layers
    backbone = Backbone([layers[index] for index in EXPORTED_LAYERS], width_mult=0.25, conventions=KERAS)
    network = FasterRCNNFPN(backbone, NUM_CLASSES, num_proposals=20).eval()
    network.roi_heads.box_head = TwoMLPHead(PYRAMID_CHANNELS * CROP_CELLS**2, 32)
    network.roi_heads.box_predictor = predictor = FastRCNNPredictor(32, NUM_CLASSES + 1)
    head = network.rpn.head
    for layer in (predictor.cls_score, predictor.bbox_pred, head.cls_logits, head.bbox_pred):
        nn.init.normal_(layer.weight, std=2 / layer.weight[0].numel() ** 0.5)
    nn.init.normal_(head.cls_logits.weight, std=5)
    nn.init.constant_(head.cls_logits.bias, -4)  # the sigmoid is less than `MIN_OBJECTNESS`
    return network


@pytest.fixture(scope="module")
def raw(network: FasterRCNNFPN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "model.onnx"
    write_onnx(network, 96, path, "detection", DetectionTask.with_num_classes(DetectionConfig(), 3).metadata)
    return path


def test_a_file_has_the_boxes_of_the_network(network: FasterRCNNFPN, raw: Path) -> None:
    """For each image of a batch, also one without regions, and for batches of any size."""
    graph = region_postprocessing(CONFIG, num_regions=20, num_classes=NUM_CLASSES, has_logits=False)
    session = InferenceSession(append_graph(onnx.load(raw), graph).SerializeToString())
    images = random_images(3)
    images[1] = 127
    for batch in (images, images[:1], images[1:2]):
        with torch.no_grad():
            expected = decode_region_outputs(network(batch), CONFIG)
        boxes_xyxy, scores, class_ids = session.run(["boxes_xyxy", "scores", "class_ids"], {INPUT: batch.numpy()})
        for row, detections in enumerate(expected):
            found = scores[row] > 0
            assert len(detections) == found.sum()
            np.testing.assert_allclose(scores[row][found], detections.scores, atol=1e-5)
            np.testing.assert_allclose(boxes_xyxy[row][found], detections.boxes_xyxy, atol=1e-2)
            np.testing.assert_array_equal(class_ids[row][found], detections.class_ids)
        assert [len(detections) > 5 for detections in expected] == [image.std() > 0 for image in batch.float()]


@torch.no_grad()
def test_a_file_is_compared_with_regions_in_any_order(network: FasterRCNNFPN, raw: Path) -> None:
    assert largest_difference(network, ExportedNetwork(ExportedModel(raw)), random_images(2)) < 1e-4
    outputs = RegionOutputs(torch.rand(1, 20, 4), torch.rand(1, 20, 2), torch.rand(1, 20, 3, 4), torch.zeros(0))
    for num_others, is_same in ((2, True), (10, False)):
        rows = torch.randperm(20)
        moved = RegionOutputs(*(values[:, rows] for values in outputs[:3]), outputs.losses)
        moved.regions_xyxy[:, :num_others] += 2
        assert all(torch.equal(a, b) for a, b in zip(outputs.order(moved), outputs, strict=True)) == is_same


def test_formats_without_the_suppression_are_refused(network: FasterRCNNFPN, raw: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^the suppression between its two stages is an operator of ONNX; use openvino"
    ):
        ConversionSource(network, RegionOutputs._fields, raw, 96).portable()
