"""The two stages, each against torchvision's part for the same job or against hand arithmetic."""

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
from tasks.common.runtime.device import in_fp32
from tasks.detection.anchors import build_anchors, region_shapes
from tasks.detection.boxes import decode, encode, have_area
from tasks.detection.faster_rcnn import FasterRCNN, FasterRCNNOutputs, crop, propose, sample_regions
from tasks.detection.loss import faster_rcnn_loss
from tests.tasks.detection.objects import NOTHING, NUM_CLASSES, random_truth, targets_of

RAW = ("objectness", "anchor_deltas", "class_logits", "box_deltas")  # what autocast computes


def random_boxes(*shape: int) -> torch.Tensor:
    low = torch.rand(*shape, 2) * 0.7
    return torch.cat([low, low + 0.03 + 0.27 * torch.rand(*shape, 2)], -1)


def random_outputs(anchors: torch.Tensor, regions: torch.Tensor) -> FasterRCNNOutputs:
    number, num_regions = regions.shape[:2]
    return FasterRCNNOutputs(
        torch.randn(number, len(anchors)),
        torch.randn(number, len(anchors), 4),
        anchors,
        regions,
        torch.randn(number, num_regions, NUM_CLASSES + 1),
        torch.randn(number, num_regions, NUM_CLASSES + 1, 4),
    )


def images(number: int, size: int = 96) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def test_outputs_have_a_row_for_each_anchor_and_each_region(rng: np.random.Generator) -> None:
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=96, num_proposals=20, num_sampled=8)
    for targets, num_regions in ((None, 20), (targets_of(random_truth(rng, 3, 0)), 8)):
        outputs = model(images(2), targets)
        assert outputs.anchors.shape == (6 * 6 * 12, 4)
        assert outputs.objectness.shape == (2, 6 * 6 * 12)
        assert outputs.anchor_deltas.shape == (2, 6 * 6 * 12, 4)
        assert outputs.regions_xyxy.shape == (2, num_regions, 4)
        assert outputs.class_logits.shape == (2, num_regions, NUM_CLASSES + 1)
        assert outputs.box_deltas.shape == (2, num_regions, NUM_CLASSES + 1, 4)


@pytest.mark.parametrize("name", ["mobilenet_v2_0.5", "mobilenet_v3_large_0.5", "mobilenet_v3_small_0.5"])
def test_learns_on_every_backbone(name: str, rng: np.random.Generator) -> None:
    model = FasterRCNN(build_backbone(name), NUM_CLASSES, input_size=96)
    targets = targets_of(random_truth(rng, 3, 2))
    faster_rcnn_loss(model(images(2), targets), targets, match_iou=0.7)["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_anchors_are_16_px_apart() -> None:
    """Also at 300 px, where 19 of them are 304 px wide."""
    anchors = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=300)(images(1, 300)).anchors * 300
    assert anchors[: 12 * 19 : 12, 0].tolist() == pytest.approx([16 * column + 8 for column in range(19)])
    assert anchors[:: 12 * 19, 1].tolist() == pytest.approx([16 * row + 8 for row in range(19)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [96, 300])
def test_half_precision_moves_no_anchor(dtype: torch.dtype, size: int, rng: np.random.Generator) -> None:
    """In bf16 304 / 300 is 1.0156: anchors would be off by a quarter of a percent of the image."""
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=size).eval()
    pixels, targets = images(2, size), targets_of(random_truth(rng, 3, 2))
    for some in (None, targets):
        exact = model(pixels, some)
        with torch.autocast("cpu", dtype):
            rough = model(pixels, some)
        assert rough.objectness.dtype == dtype
        assert rough.anchors.dtype == rough.regions_xyxy.dtype == torch.float32
        assert torch.equal(rough.anchors, exact.anchors)
    losses, expected = (faster_rcnn_loss(in_fp32(outputs), targets, match_iou=0.7) for outputs in (rough, exact))
    assert expected["boxes"] > 0
    for name in ("objectness", "proposals"):  # of the same anchors; the regions are proposals, which may be others
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_equal_outputs_mean_the_same_in_half_precision(dtype: torch.dtype, rng: np.random.Generator) -> None:
    """Values that bf16 has: the same proposals and the same losses, whatever the type that they come in."""
    anchors = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=300).anchors
    targets = targets_of(random_truth(rng, 3, 2))
    outputs = random_outputs(anchors, torch.cat([random_boxes(2, 20), targets.boxes_xyxy], 1))
    raw = {name: getattr(outputs, name).clamp(-4, 4).mul(16).round() / 16 for name in RAW}
    outputs = outputs._replace(**raw)
    half = outputs._replace(**{name: values.to(dtype) for name, values in raw.items()})
    assert all(torch.equal(getattr(half, name).float(), values) for name, values in raw.items())
    proposals, expected_proposals = (propose(o.objectness, o.anchor_deltas, o.anchors, 30) for o in (half, outputs))
    assert torch.equal(proposals, expected_proposals)
    losses, expected = (faster_rcnn_loss(in_fp32(o), targets, match_iou=0.5) for o in (half, outputs))
    assert all(torch.equal(losses[name], value) for name, value in expected.items())


def test_crops_of_an_image_whose_side_is_no_multiple_of_16() -> None:
    features, regions = torch.rand(1, 5, 19, 19), random_boxes(1, 7)
    extent, whole = (FasterRCNN(MobileNet(0.25), 4, input_size=size).map_extent for size in (300, 160))
    expected = roi_align(features, list(regions * 300), 14, spatial_scale=1 / 16, sampling_ratio=1, aligned=True)
    cropped = crop(features, regions / extent)
    torch.testing.assert_close(cropped, expected, atol=1e-5, rtol=0)
    assert (extent, whole) == (304 / 300, 1)


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
    anchors = build_anchors([(8, 8)], [region_shapes((0.1, 0.2, 0.4, 0.8))])
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
    torch.testing.assert_close(proposals[0, 0], box_convert(anchors[1], "cxcywh", "xyxy"))


def test_sampled_regions_are_a_quarter_around_objects(rng: np.random.Generator) -> None:
    """Of proposals and true boxes; the true boxes alone are enough to have some."""
    targets = targets_of(random_truth(rng, 3, 40, 0))
    proposals = random_boxes(3, 300)
    regions = sample_regions(proposals, targets, 64)
    assert have_area(regions).all()
    for image, (boxes, objects) in enumerate(zip(regions, targets.boxes_xyxy, strict=True)):
        overlap = box_iou(boxes, objects[have_area(objects)])
        near = int((overlap.amax(1) >= 0.5).sum()) if image < 2 else 0
        assert (3 <= near <= 16) if image == 0 else near == (16, 16, 0)[image]
        known = torch.cat([proposals[image], objects])
        assert (boxes[:, None] == known).all(-1).any(1).all()
    few = sample_regions(proposals[:, :5], targets, 64)
    assert have_area(few).sum(1).tolist() != [64, 64, 64]


@pytest.mark.parametrize("match_iou", [0.7, 0.4])
def test_equals_torchvisions_losses(rng: np.random.Generator, match_iou: float) -> None:
    """All anchors and regions are in the sample, so that it is the same in both."""
    truth = random_truth(rng, 3, 1)
    anchors = build_anchors([(4, 4)], [region_shapes((0.1, 0.2, 0.4, 0.8))])  # 192 of at most 256
    # 20 boxes and the objects; the second image's one object is filled up with two boxes without area.
    regions = torch.cat([random_boxes(2, 20), targets_of(truth).boxes_xyxy], 1)
    num_regions = (20 + 3) + (20 + 1)  # each is an object's or background, at a threshold that is one and the same
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
    for image, real in enumerate((23, 21)):
        logits, own = outputs.class_logits[image, :real], region_labels[image][:real]
        classes += functional.cross_entropy(logits, own, reduction="sum").item()
        expected = encode(boxes[image][matched_ids[image]], box_convert(regions[image], "xyxy", "cxcywh"))
        for row in own.nonzero()[:, 0].tolist():
            found = outputs.box_deltas[image, row, own[row]]
            distance += functional.smooth_l1_loss(found, expected[row], beta=1 / 9, reduction="sum").item()
    assert distance > 0
    assert losses["classes"].item() == pytest.approx(classes / num_regions, rel=1e-5)
    assert losses["boxes"].item() == pytest.approx(distance / num_regions, rel=1e-5)
    assert losses["total"].item() == pytest.approx(sum(v.item() for k, v in losses.items() if k != "total"))


def test_empty_slots_change_no_loss(rng: np.random.Generator) -> None:
    """Regions without area stand for none, however many there are and wherever they are."""
    targets = targets_of(random_truth(rng, 3, 1))
    anchors = build_anchors([(4, 4)], [region_shapes((0.1, 0.2, 0.4, 0.8))])
    outputs = random_outputs(anchors, torch.cat([random_boxes(2, 20), targets.boxes_xyxy], 1))
    lines = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3], [0.2, 0.1, 0.6, 0.1]]).expand(2, -1, -1)
    filled = random_outputs(anchors, torch.cat([outputs.regions_xyxy, lines], 1))
    for values, own in zip(filled[4:], outputs[4:], strict=True):
        values[:, : own.shape[1]] = own
    filled = filled._replace(objectness=outputs.objectness, anchor_deltas=outputs.anchor_deltas)
    order = torch.randperm(filled.regions_xyxy.shape[1])
    mixed = filled._replace(**{name: getattr(filled, name)[:, order] for name in filled._fields[3:]})
    expected = faster_rcnn_loss(outputs, targets, match_iou=0.5)
    assert min(expected.values()) > 0
    for some in (filled, mixed):
        losses = faster_rcnn_loss(some, targets, match_iou=0.5)
        assert {k: v.item() for k, v in losses.items()} == pytest.approx(
            {k: v.item() for k, v in expected.items()}, rel=1e-5
        )


def test_an_image_has_the_same_regions_in_any_batch(rng: np.random.Generator) -> None:
    """In another place, and among images with more objects, whose truth is filled up with more boxes without area."""
    truth, proposals, seeds = random_truth(rng, 3, 40, 0, 7), random_boxes(4, 300), [11, 12, 2**32 - 1, 0]
    together = sample_regions(proposals, targets_of(truth, seeds), 64)
    for order in ([0], [2, 0], [3, 2, 1, 0]):
        some = targets_of([truth[row] for row in order], [seeds[row] for row in order])
        assert torch.equal(sample_regions(proposals[order], some, 64), together[order])
    others = sample_regions(proposals, targets_of(truth, [seed + 1 for seed in seeds[:2]] + seeds[2:]), 64)
    assert [torch.equal(a, b) for a, b in zip(others, together, strict=True)] == [False, False, True, True]


def test_images_without_objects_teach_background() -> None:
    model = FasterRCNN(MobileNet(0.25), NUM_CLASSES, input_size=96)
    targets = targets_of([NOTHING, NOTHING])
    outputs = model(images(2), targets)
    losses = faster_rcnn_loss(outputs, targets, match_iou=0.7)
    assert losses["proposals"].item() == losses["boxes"].item() == 0
    assert losses["objectness"].item() == pytest.approx(math.log(2), rel=0.1)
    background = -outputs.class_logits.log_softmax(-1)[..., 0].mean()
    assert losses["classes"].item() == pytest.approx(background.item(), rel=1e-5)
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
