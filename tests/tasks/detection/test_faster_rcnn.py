"""The two stages, each against its counterpart in torchvision or by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork
from torchvision.ops import box_convert, box_iou, roi_align

from backbone.build import build_backbone
from backbone.mobilenet import MobileNet
from tasks.common.runtime.device import to_fp32
from tasks.detection.anchors import build_anchors, rpn_shapes
from tasks.detection.boxes import decode, encode, has_area
from tasks.detection.faster_rcnn import FasterRCNN, FasterRCNNOutputs, crop_regions, propose, sample_regions
from tasks.detection.loss import faster_rcnn_loss
from tests.tasks.detection.objects import NO_OBJECTS, NUM_CLASSES, random_truth, targets_of

AUTOCAST_OUTPUTS = ("objectness", "anchor_deltas", "class_logits", "box_deltas")


def random_boxes(*shape: int) -> torch.Tensor:
    low = torch.rand(*shape, 2) * 0.7
    return torch.cat([low, low + 0.03 + 0.27 * torch.rand(*shape, 2)], -1)


def random_outputs(anchors: torch.Tensor, regions: torch.Tensor) -> FasterRCNNOutputs:
    num_images, num_regions = regions.shape[:2]
    return FasterRCNNOutputs(
        torch.randn(num_images, len(anchors)),
        torch.randn(num_images, len(anchors), 4),
        anchors,
        regions,
        torch.randn(num_images, num_regions, NUM_CLASSES + 1),
        torch.randn(num_images, num_regions, NUM_CLASSES + 1, 4),
    )


def random_images(num_images: int, size: int = 96) -> torch.Tensor:
    return torch.randint(0, 256, (num_images, 3, size, size), dtype=torch.uint8)


def test_outputs_have_a_row_for_each_anchor_and_each_region(rng: np.random.Generator) -> None:
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=96, num_proposals=20, num_sampled=8)
    for targets, num_regions in ((None, 20), (targets_of(random_truth(rng, 3, 0)), 8)):
        outputs = model(random_images(2), targets)
        assert outputs.anchors.shape == (6 * 6 * 12, 4)
        assert outputs.objectness.shape == (2, 6 * 6 * 12)
        assert outputs.anchor_deltas.shape == (2, 6 * 6 * 12, 4)
        assert outputs.regions_xyxy.shape == (2, num_regions, 4)
        assert outputs.class_logits.shape == (2, num_regions, NUM_CLASSES + 1)
        assert outputs.box_deltas.shape == (2, num_regions, NUM_CLASSES + 1, 4)


@pytest.mark.parametrize("name", ["mobilenet_v2_0.5", "mobilenet_v3_large_0.5", "mobilenet_v3_small_0.5"])
def test_trains_on_every_backbone(name: str, rng: np.random.Generator) -> None:
    model = FasterRCNN(build_backbone(name), NUM_CLASSES, input_size=96)
    targets = targets_of(random_truth(rng, 3, 2))
    faster_rcnn_loss(model(random_images(2), targets), targets, match_iou=0.7)["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_anchors_are_16_px_apart() -> None:
    """Also at 300 px, where 19 cells are 304 px wide."""
    anchors = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=300)(random_images(1, 300)).anchors * 300
    assert anchors[: 12 * 19 : 12, 0].tolist() == pytest.approx([16 * column + 8 for column in range(19)])
    assert anchors[:: 12 * 19, 1].tolist() == pytest.approx([16 * row + 8 for row in range(19)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [96, 300])
def test_half_precision_moves_no_anchor(dtype: torch.dtype, size: int, rng: np.random.Generator) -> None:
    """In bf16 304 / 300 is 1.0156: anchors would be off by a quarter of a percent of the image."""
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=size).eval()
    images, targets = random_images(2, size), targets_of(random_truth(rng, 3, 2))
    for forward_targets in (None, targets):
        full = model(images, forward_targets)
        with torch.autocast("cpu", dtype):
            half = model(images, forward_targets)
        assert half.objectness.dtype == dtype
        assert half.anchors.dtype == half.regions_xyxy.dtype == torch.float32
        assert torch.equal(half.anchors, full.anchors)
    losses, expected = (faster_rcnn_loss(to_fp32(outputs), targets, match_iou=0.7) for outputs in (half, full))
    assert expected["boxes"] > 0
    for name in ("objectness", "proposals"):  # of the same anchors; the proposals may differ
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_equal_outputs_in_half_precision_give_the_same_losses(dtype: torch.dtype, rng: np.random.Generator) -> None:
    """Values that bf16 represents exactly give the same proposals and losses in any dtype."""
    anchors = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=300).anchors
    targets = targets_of(random_truth(rng, 3, 2))
    outputs = random_outputs(anchors, torch.cat([random_boxes(2, 20), targets.boxes_xyxy], 1))
    raw = {name: getattr(outputs, name).clamp(-4, 4).mul(16).round() / 16 for name in AUTOCAST_OUTPUTS}
    outputs = outputs._replace(**raw)
    half = outputs._replace(**{name: values.to(dtype) for name, values in raw.items()})
    assert all(torch.equal(getattr(half, name).float(), values) for name, values in raw.items())
    proposals, expected_proposals = (propose(o.objectness, o.anchor_deltas, o.anchors, 30) for o in (half, outputs))
    assert torch.equal(proposals, expected_proposals)
    losses, expected = (faster_rcnn_loss(to_fp32(o), targets, match_iou=0.5) for o in (half, outputs))
    assert all(torch.equal(losses[name], value) for name, value in expected.items())


def test_crops_at_an_input_size_that_is_no_multiple_of_16() -> None:
    features, regions = torch.rand(1, 5, 19, 19), random_boxes(1, 7)
    extent, exact_extent = (FasterRCNN(MobileNet(0.25), 4, input_size=size).map_extent for size in (300, 160))
    expected = roi_align(features, list(regions * 300), 14, spatial_scale=1 / 16, sampling_ratio=1, aligned=True)
    cropped = crop_regions(features, regions / extent)
    torch.testing.assert_close(cropped, expected, atol=1e-5, rtol=0)
    assert (extent, exact_extent) == (304 / 300, 1)


def test_crops_equal_roi_align() -> None:
    features, regions = torch.rand(2, 5, 9, 13, requires_grad=True), random_boxes(2, 7)
    regions[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    in_cells = regions * torch.tensor([13, 9, 13, 9])
    expected = roi_align(features, list(in_cells), 14, sampling_ratio=1, aligned=True)
    crops = crop_regions(features, regions)
    torch.testing.assert_close(crops, expected, atol=1e-5, rtol=0)
    weights = torch.rand_like(crops)
    gradient, expected_gradient = (
        torch.autograd.grad((values * weights).sum(), features)[0] for values in (crops, expected)
    )
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=0)


def test_proposals_equal_torchvisions() -> None:
    """Its `filter_proposals` on the same boxes; only its anchors are not used."""
    anchors = build_anchors([(8, 8)], [rpn_shapes((0.1, 0.2, 0.4, 0.8))])
    objectness, deltas = torch.randn(3, len(anchors)), 0.5 * torch.randn(3, len(anchors), 4)
    counts = {"training": 2000, "testing": 2000}, {"training": 40, "testing": 40}
    rpn = RegionProposalNetwork(AnchorGenerator(), torch.nn.Identity(), 0.7, 0.3, 256, 0.5, *counts, 0.7)
    rpn.min_size = 0.0
    boxes = decode(deltas, anchors)
    expected, _ = rpn.filter_proposals(boxes, objectness, [(1, 1)] * 3, [len(anchors)])
    torch.testing.assert_close(propose(objectness, deltas, anchors, 40), torch.stack(expected))


def test_proposals_are_padded_with_boxes_without_area() -> None:
    anchors = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.21, 0.2], [2.0, 0.5, 0.2, 0.2]])
    proposals = propose(torch.tensor([[0.1, 0.9, 0.5]]), torch.zeros(1, 3, 4), anchors, 3)
    # The one with the lower score is suppressed, the one outside the image is clipped to no area.
    assert has_area(proposals)[0].tolist() == [True, False, False]
    torch.testing.assert_close(proposals[0, 0], box_convert(anchors[1], "cxcywh", "xyxy"))


def test_at_most_a_quarter_of_the_sampled_regions_are_positive(rng: np.random.Generator) -> None:
    """They are sampled from proposals and true boxes, so an image with objects has positives."""
    targets = targets_of(random_truth(rng, 3, 40, 0))
    proposals = random_boxes(3, 300)
    regions = sample_regions(proposals, targets, 64)
    assert has_area(regions).all()
    for image, (boxes, objects) in enumerate(zip(regions, targets.boxes_xyxy, strict=True)):
        ious = box_iou(boxes, objects[has_area(objects)])
        num_positives = int((ious.amax(1) >= 0.5).sum()) if image < 2 else 0
        assert (3 <= num_positives <= 16) if image == 0 else num_positives == (16, 16, 0)[image]
        candidates = torch.cat([proposals[image], objects])
        assert (boxes[:, None] == candidates).all(-1).any(1).all()
    few_regions = sample_regions(proposals[:, :5], targets, 64)
    assert has_area(few_regions).sum(1).tolist() != [64, 64, 64]


@pytest.mark.parametrize("match_iou", [0.7, 0.4])
def test_losses_equal_torchvisions(rng: np.random.Generator, match_iou: float) -> None:
    """All anchors and regions are sampled, so that both use the same ones."""
    truth = random_truth(rng, 3, 1)
    anchors = build_anchors([(4, 4)], [rpn_shapes((0.1, 0.2, 0.4, 0.8))])  # 192 of at most 256
    # 20 boxes and the objects; the second image's single object is padded with two boxes without area.
    regions = torch.cat([random_boxes(2, 20), targets_of(truth).boxes_xyxy], 1)
    num_regions = (20 + 3) + (20 + 1)  # each positive or background, as both thresholds are equal
    outputs = random_outputs(anchors, regions)
    losses = faster_rcnn_loss(outputs, targets_of(truth), match_iou=match_iou)

    targets = [
        {"boxes": torch.from_numpy(t.resized((1, 1)).boxes_xyxy), "labels": torch.from_numpy(t.class_ids) + 1}
        for t in truth
    ]
    counts = {"training": 1, "testing": 1}, {"training": 1, "testing": 1}
    rpn = RegionProposalNetwork(AnchorGenerator(), torch.nn.Identity(), match_iou, 0.3, 256, 0.5, *counts, 0.7)
    labels, matched = rpn.assign_targets_to_anchors([box_convert(anchors, "cxcywh", "xyxy")] * 2, targets)
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
    classes = distance = 0.0
    for image, num_valid in enumerate((23, 21)):
        logits, labels = outputs.class_logits[image, :num_valid], region_labels[image][:num_valid]
        classes += functional.cross_entropy(logits, labels, reduction="sum").item()
        expected = encode(boxes[image][matched_ids[image]], box_convert(regions[image], "xyxy", "cxcywh"))
        for row in labels.nonzero()[:, 0].tolist():
            deltas = outputs.box_deltas[image, row, labels[row]]
            distance += functional.smooth_l1_loss(deltas, expected[row], beta=1 / 9, reduction="sum").item()
    assert distance > 0
    assert losses["classes"].item() == pytest.approx(classes / num_regions, rel=1e-5)
    assert losses["boxes"].item() == pytest.approx(distance / num_regions, rel=1e-5)
    assert losses["total"].item() == pytest.approx(sum(v.item() for k, v in losses.items() if k != "total"))


def test_padding_changes_no_loss(rng: np.random.Generator) -> None:
    """Regions without area are ignored, at any position and in any number."""
    targets = targets_of(random_truth(rng, 3, 1))
    anchors = build_anchors([(4, 4)], [rpn_shapes((0.1, 0.2, 0.4, 0.8))])
    outputs = random_outputs(anchors, torch.cat([random_boxes(2, 20), targets.boxes_xyxy], 1))
    degenerate = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3], [0.2, 0.1, 0.6, 0.1]]).expand(2, -1, -1)
    padded = random_outputs(anchors, torch.cat([outputs.regions_xyxy, degenerate], 1))
    for padded_values, values in zip(padded[4:], outputs[4:], strict=True):
        padded_values[:, : values.shape[1]] = values
    padded = padded._replace(objectness=outputs.objectness, anchor_deltas=outputs.anchor_deltas)
    order = torch.randperm(padded.regions_xyxy.shape[1])
    shuffled = padded._replace(**{name: getattr(padded, name)[:, order] for name in padded._fields[3:]})
    expected = faster_rcnn_loss(outputs, targets, match_iou=0.5)
    assert min(expected.values()) > 0
    for padded_outputs in (padded, shuffled):
        losses = faster_rcnn_loss(padded_outputs, targets, match_iou=0.5)
        assert {k: v.item() for k, v in losses.items()} == pytest.approx(
            {k: v.item() for k, v in expected.items()}, rel=1e-5
        )


def test_sampled_regions_do_not_depend_on_the_batch(rng: np.random.Generator) -> None:
    """At any position, and beside images with more objects, which pad the targets further."""
    truth, proposals, seeds = random_truth(rng, 3, 40, 0, 7), random_boxes(4, 300), [11, 12, 2**32 - 1, 0]
    together = sample_regions(proposals, targets_of(truth, seeds), 64)
    for order in ([0], [2, 0], [3, 2, 1, 0]):
        targets = targets_of([truth[row] for row in order], [seeds[row] for row in order])
        assert torch.equal(sample_regions(proposals[order], targets, 64), together[order])
    reseeded = sample_regions(proposals, targets_of(truth, [seed + 1 for seed in seeds[:2]] + seeds[2:]), 64)
    assert [torch.equal(a, b) for a, b in zip(reseeded, together, strict=True)] == [False, False, True, True]


def test_images_without_objects_train_background() -> None:
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=96)
    targets = targets_of([NO_OBJECTS, NO_OBJECTS])
    outputs = model(random_images(2), targets)
    losses = faster_rcnn_loss(outputs, targets, match_iou=0.7)
    assert losses["proposals"].item() == losses["boxes"].item() == 0
    assert losses["objectness"].item() == pytest.approx(math.log(2), rel=0.1)
    background = -outputs.class_logits.log_softmax(-1)[..., 0].mean()
    assert losses["classes"].item() == pytest.approx(background.item(), rel=1e-5)
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
