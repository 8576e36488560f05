"""The two stages, each against torchvision's part for the same job or against hand arithmetic."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork
from torchvision.ops import box_iou, roi_align

from backbone import MobileNet, build_backbone
from datasets.types import Detections
from tasks.detection.anchors import build_anchors, region_shapes
from tasks.detection.boxes import decode, encode, have_area, to_cxcywh, to_xyxy
from tasks.detection.faster_rcnn import FasterRCNN, FasterRCNNOutputs, crop, map_extent, propose, sample_regions
from tasks.detection.loss import faster_rcnn_loss
from tasks.detection.matching import pack
from tests.tasks.detection.objects import NUM_CLASSES, random_truth

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (96, 96))


def random_boxes(*shape: int) -> torch.Tensor:
    low = torch.rand(*shape, 2) * 0.7
    return torch.cat([low, low + 0.03 + 0.27 * torch.rand(*shape, 2)], -1)


def images(number: int, size: int = 96) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def test_outputs_have_a_row_for_each_anchor_and_each_region(rng: np.random.Generator) -> None:
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES, num_proposals=20, num_sampled=8)
    truth = pack(random_truth(rng, 3, 0))
    for hints, num_regions in (((), 20), ((truth,), 8)):
        outputs = model(images(2), *hints)
        assert outputs.anchors.shape == (6 * 6 * 12, 4)
        assert outputs.objectness.shape == (2, 6 * 6 * 12)
        assert outputs.anchor_deltas.shape == (2, 6 * 6 * 12, 4)
        assert outputs.regions_xyxy.shape == (2, num_regions, 4)
        assert outputs.class_logits.shape == (2, num_regions, NUM_CLASSES + 1)
        assert outputs.box_deltas.shape == (2, num_regions, NUM_CLASSES + 1, 4)


@pytest.mark.parametrize("name", ["mobilenet_v2_0.5", "mobilenet_v3_large_0.5", "mobilenet_v3_small_0.5"])
def test_learns_on_every_backbone(name: str, rng: np.random.Generator) -> None:
    model = FasterRCNN(build_backbone(name), NUM_CLASSES)
    truth = random_truth(rng, 3, 2)
    faster_rcnn_loss(model(images(2), pack(truth)), truth, match_iou=0.7)["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_anchors_are_16_px_apart() -> None:
    """Also at 300 px, where 19 of them are 304 px wide."""
    anchors = FasterRCNN(MobileNet(0.25), NUM_CLASSES)(images(1, 300)).anchors * 300
    assert anchors[: 12 * 19 : 12, 0].tolist() == pytest.approx([16 * column + 8 for column in range(19)])
    assert anchors[:: 12 * 19, 1].tolist() == pytest.approx([16 * row + 8 for row in range(19)])


def test_crops_of_an_image_whose_side_is_no_multiple_of_16() -> None:
    features, pixels, regions = torch.rand(1, 5, 19, 19), torch.zeros(1, 3, 300, 300), random_boxes(1, 7)
    expected = roi_align(features, list(regions * 300), 14, spatial_scale=1 / 16, sampling_ratio=1, aligned=True)
    cropped = crop(features, regions / map_extent(features, pixels).repeat(2))
    torch.testing.assert_close(cropped, expected, atol=1e-5, rtol=0)
    assert map_extent(torch.zeros(1, 1, 10, 19), torch.zeros(1, 3, 160, 300)).tolist() == pytest.approx([304 / 300, 1])


def test_crops_are_those_of_roi_align() -> None:
    features, regions = torch.rand(2, 5, 9, 13, requires_grad=True), random_boxes(2, 7)
    regions[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    in_cells = regions * torch.tensor([13, 9, 13, 9])
    expected = roi_align(features, list(in_cells), 14, sampling_ratio=1, aligned=True)
    crops = crop(features, regions)
    torch.testing.assert_close(crops, expected, atol=1e-5, rtol=0)
    weights = torch.rand_like(crops)
    ours, theirs = (torch.autograd.grad((c * weights).sum(), features)[0] for c in (crops, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_proposals_are_those_of_torchvision() -> None:
    """Its filter takes the same boxes; only its anchors are not used."""
    anchors = build_anchors([torch.zeros(1, 1, 8, 8)], [region_shapes((0.1, 0.2, 0.4, 0.8))])
    objectness, deltas = torch.randn(3, len(anchors)), 0.5 * torch.randn(3, len(anchors), 4)
    counts = {"training": 2000, "testing": 2000}, {"training": 40, "testing": 40}
    theirs = RegionProposalNetwork(AnchorGenerator(), torch.nn.Identity(), 0.7, 0.3, 256, 0.5, *counts, 0.7)
    theirs.min_size = 0.0
    boxes = decode(deltas, anchors)
    expected, _ = theirs.filter_proposals(boxes, objectness, [(1, 1)] * 3, [len(anchors)])
    torch.testing.assert_close(propose(objectness, deltas, anchors, 40), torch.stack(expected))


def test_fewer_proposals_are_filled_up_with_boxes_without_area() -> None:
    anchors = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.21, 0.2], [2.0, 0.5, 0.2, 0.2]])
    proposals = propose(torch.tensor([[0.1, 0.9, 0.5]]), torch.zeros(1, 3, 4), anchors, 3)
    assert have_area(proposals)[0].tolist() == [True, False, False]  # one of two twins; the third lies outside
    torch.testing.assert_close(proposals[0, 0], to_xyxy(anchors[1]))


def test_sampled_regions_are_a_quarter_around_objects(rng: np.random.Generator) -> None:
    """Of proposals and true boxes; the true boxes alone are enough to have some."""
    truth = pack(random_truth(rng, 3, 40, 0))
    proposals = random_boxes(3, 300)
    regions = sample_regions(proposals, truth, 64)
    assert have_area(regions).all()
    for image, (boxes, objects) in enumerate(zip(regions, truth.boxes_xyxy, strict=True)):
        overlap = box_iou(boxes, objects[have_area(objects)])
        near = int((overlap.amax(1) >= 0.5).sum()) if image < 2 else 0
        assert (3 <= near <= 16) if image == 0 else near == (16, 16, 0)[image]
        known = torch.cat([proposals[image], objects])
        assert (boxes[:, None] == known).all(-1).any(1).all()
    few = sample_regions(proposals[:, :5], truth, 64)
    assert have_area(few).sum(1).tolist() != [64, 64, 64]


@pytest.mark.parametrize("match_iou", [0.7, 0.4])
def test_equals_torchvisions_losses(rng: np.random.Generator, match_iou: float) -> None:
    """All anchors and regions are in the sample, so that it is the same in both."""
    truth = random_truth(rng, 3, 1)
    anchors = build_anchors([torch.zeros(1, 1, 4, 4)], [region_shapes((0.1, 0.2, 0.4, 0.8))])  # 192 of at most 256
    regions = torch.cat([random_boxes(2, 20), pack(truth).boxes_xyxy], 1)
    outputs = FasterRCNNOutputs(
        torch.randn(2, len(anchors)),
        torch.randn(2, len(anchors), 4),
        anchors,
        regions,
        torch.randn(2, regions.shape[1], NUM_CLASSES + 1),
        torch.randn(2, regions.shape[1], NUM_CLASSES + 1, 4),
    )
    losses = faster_rcnn_loss(outputs, truth, match_iou=match_iou)

    targets = [
        {"boxes": torch.from_numpy(t.resized((1, 1)).boxes_xyxy), "labels": torch.from_numpy(t.class_ids) + 1}
        for t in truth
    ]
    counts = {"training": 1, "testing": 1}, {"training": 1, "testing": 1}
    rpn = RegionProposalNetwork(AnchorGenerator(), torch.nn.Identity(), match_iou, 0.3, 256, 0.5, *counts, 0.7)
    labels, matched = rpn.assign_targets_to_anchors([to_xyxy(anchors)] * 2, targets)
    objectness, proposals = rpn.compute_loss(
        outputs.objectness.reshape(-1, 1),
        outputs.anchor_deltas.flatten(0, 1),
        labels,
        [encode(m, anchors) for m in matched],
    )
    assert losses["objectness"].item() == pytest.approx(objectness.item(), rel=1e-5)
    assert losses["proposals"].item() == pytest.approx(proposals.item(), rel=1e-5)

    heads = RoIHeads(None, None, None, 0.5, 0.5, 64, 0.25, None, 0.05, 0.5, 100)
    boxes = [t["boxes"] for t in targets]
    matched_ids, region_labels = heads.assign_targets_to_proposals(list(regions), boxes, [t["labels"] for t in targets])
    # The second image's one object fills up its truth with boxes without area, which count for nothing.
    classes = distance = 0.0
    count = sum(int(have_area(r).sum()) for r in regions)
    for image in range(2):
        real = have_area(regions[image])
        logits, own = outputs.class_logits[image], region_labels[image]
        classes += functional.cross_entropy(logits[real], own[real], reduction="sum").item() / count
        expected = encode(boxes[image][matched_ids[image]], to_cxcywh(regions[image]))
        for row in (own * real).nonzero()[:, 0].tolist():
            found = outputs.box_deltas[image, row, own[row]]
            loss = functional.smooth_l1_loss(found, expected[row], beta=1 / 9, reduction="sum")
            distance += loss.item() / own.numel() / 2
    assert losses["classes"].item() == pytest.approx(classes, rel=1e-5)
    assert losses["boxes"].item() == pytest.approx(distance, rel=1e-5)
    assert losses["total"].item() == pytest.approx(sum(v.item() for k, v in losses.items() if k != "total"))


def test_images_without_objects_teach_background() -> None:
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES)
    outputs = model(images(2), pack([NOTHING, NOTHING]))
    losses = faster_rcnn_loss(outputs, [NOTHING, NOTHING], match_iou=0.7)
    assert losses["proposals"].item() == losses["boxes"].item() == 0
    assert losses["objectness"].item() == pytest.approx(math.log(2), rel=0.1)
    background = -outputs.class_logits.log_softmax(-1)[..., 0].mean()
    assert losses["classes"].item() == pytest.approx(background.item(), rel=1e-5)
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
