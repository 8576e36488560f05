"""The vectorised SSD loss against the paper's definition, image by image and anchor by anchor."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import box_convert, box_iou

from datasets.types import Detections
from tasks.detection.anchors import build_anchors, ssd_shapes
from tasks.detection.boxes import encode
from tasks.detection.config import Scores
from tasks.detection.loss import ssd_loss
from tasks.detection.matching import DetectionTargets, gather_rows, match_anchors
from tasks.detection.ssd import SSDOutputs
from tests.tasks.detection.objects import NO_OBJECTS, NUM_CLASSES, random_truth, targets_of

ANCHORS = build_anchors([(grid, grid) for grid in (6, 3, 2, 1, 1, 1)], ssd_shapes())


def random_outputs(num_images: int, scores: Scores = "softmax") -> SSDOutputs:
    num_anchors, num_outputs = len(ANCHORS), NUM_CLASSES + (scores == "softmax")
    return SSDOutputs(
        torch.randn(num_images, num_anchors, num_outputs, requires_grad=True),
        torch.randn(num_images, num_anchors, 4, requires_grad=True),
        ANCHORS,
    )


def class_loss(logits: torch.Tensor, target: int, scores: Scores) -> float:
    """Of one anchor; target 0 is the background."""
    if scores == "softmax":
        return functional.cross_entropy(logits[None], torch.tensor([target])).item()
    expected = functional.one_hot(torch.tensor(target), NUM_CLASSES + 1)[1:].float()
    return functional.binary_cross_entropy_with_logits(logits, expected, reduction="sum").item()


def reference_loss(outputs: SSDOutputs, truth: list[Detections], scores: Scores = "softmax") -> tuple[float, float]:
    classes = boxes = 0.0
    num_positives = 0
    for logits, deltas, objects in zip(outputs.class_logits, outputs.box_deltas, truth, strict=True):
        matched: dict[int, int] = {}
        true_boxes = torch.from_numpy(objects.boxes_xyxy / 96)
        if len(objects):
            ious = box_iou(box_convert(ANCHORS, "cxcywh", "xyxy"), true_boxes)
            for anchor in range(len(ANCHORS)):
                if ious[anchor].max() >= 0.5:
                    matched[anchor] = int(ious[anchor].argmax())
            for row in reversed(range(len(objects))):
                matched[int(ious[:, row].argmax())] = row
        background = []
        for anchor in range(len(ANCHORS)):
            row = matched.get(anchor)
            target = 0 if row is None else int(objects.class_ids[row]) + 1
            value = class_loss(logits[anchor], target, scores)
            if row is None:
                background.append(value)
            else:
                classes += value
                expected = encode(true_boxes[row], ANCHORS[anchor])
                boxes += functional.smooth_l1_loss(deltas[anchor], expected, reduction="sum").item()
        num_positives += len(matched)
        classes += sum(sorted(background)[::-1][: max(3, 3 * len(matched))])
    return classes / num_positives, boxes / num_positives


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_equals_the_definition(scores: Scores, rng: np.random.Generator) -> None:
    truth = random_truth(rng, 3, 1, 0, 6)
    outputs = random_outputs(len(truth), scores)
    losses = ssd_loss(outputs, targets_of(truth), match_iou=0.5, scores=scores)
    classes, boxes = reference_loss(outputs, truth, scores)
    assert losses["classes"].item() == pytest.approx(classes, rel=1e-5)
    assert losses["boxes"].item() == pytest.approx(boxes, rel=1e-5)
    assert losses["total"].item() == pytest.approx(classes + boxes, rel=1e-5)


def loss_by_indexing(outputs: SSDOutputs, targets: DetectionTargets) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by indexing with masks: computed from the selected rows only."""
    matched, positive = match_anchors(targets, ANCHORS, 0.5)
    classes = torch.where(positive, targets.class_ids.gather(1, matched) + 1, 0)
    num_positives = positive.sum(1, keepdim=True)
    total = num_positives.sum().clamp(min=1)
    losses = functional.cross_entropy(outputs.class_logits.flatten(0, 1), classes.flatten(), reduction="none")
    losses = losses.view_as(classes)
    order = losses.detach().masked_fill(positive, -1.0).argsort(dim=1, descending=True, stable=True)
    hard = ~positive & (order.argsort(dim=1) < (3 * num_positives).clamp(min=3))
    boxes = encode(gather_rows(targets.boxes_xyxy, matched)[positive], ANCHORS.expand(len(matched), -1, -1)[positive])
    distance = functional.smooth_l1_loss(outputs.box_deltas[positive], boxes, reduction="sum")
    return losses[positive | hard].sum() / total, distance / total


@pytest.mark.parametrize("counts", [(3, 1, 0, 6), (0, 0), (40, 1), (5,)])
def test_equals_the_loss_by_indexing(counts: tuple[int, ...], rng: np.random.Generator) -> None:
    """Gradients, too: masked rows have none, and cause no NaN."""
    targets, outputs = targets_of(random_truth(rng, *counts)), random_outputs(len(counts))
    losses, expected = ssd_loss(outputs, targets, match_iou=0.5), loss_by_indexing(outputs, targets)
    assert losses["classes"].item() == pytest.approx(expected[0].item(), rel=1e-6)
    assert losses["boxes"].item() == pytest.approx(expected[1].item(), rel=1e-6)
    assert losses["total"].item() == pytest.approx(sum(expected).item(), rel=1e-6)
    gradients = (torch.autograd.grad(total, outputs[:2]) for total in (losses["total"], sum(expected)))
    for gradient, expected_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-8)


def test_every_object_is_matched_to_its_best_anchor() -> None:
    """Even below `match_iou`; an anchor that is the best of two objects is matched to the first."""
    boxes = np.array([[2, 2, 9, 9], [40, 50, 47, 57], [3, 3, 10, 10], [10, 20, 96, 90]], np.float32)
    truth = [Detections(boxes, np.zeros(4, np.int64), (96, 96))]
    matched, positive = match_anchors(targets_of(truth), ANCHORS, 0.99)
    best = box_iou(box_convert(ANCHORS, "cxcywh", "xyxy"), torch.from_numpy(boxes / 96)).argmax(0).tolist()
    assert best[0] == best[2]
    assert positive[0].nonzero()[:, 0].tolist() == sorted({*best})
    assert [matched[0, anchor].item() for anchor in best] == [0, 1, 0, 3]


def test_perfect_outputs_have_zero_loss(rng: np.random.Generator) -> None:
    truth = random_truth(rng, 3, 1, 0, 6)
    targets = targets_of(truth)
    matched, positive = match_anchors(targets, ANCHORS, 0.5)
    classes = torch.where(positive, targets.class_ids.gather(1, matched) + 1, 0)
    boxes = targets.boxes_xyxy.gather(1, matched[..., None].expand(-1, -1, 4))
    deltas = torch.where(positive[..., None], encode(boxes, ANCHORS), 0.0)
    logits = 50.0 * functional.one_hot(classes, NUM_CLASSES + 1)
    losses = ssd_loss(SSDOutputs(logits, deltas, ANCHORS), targets, match_iou=0.5)
    assert losses["total"].item() < 1e-6
    without_background = SSDOutputs(2 * logits[..., 1:] - 50, deltas, ANCHORS)
    assert ssd_loss(without_background, targets, match_iou=0.5, scores="sigmoid")["total"].item() < 1e-6


def test_frame_of_the_truth_does_not_matter(rng: np.random.Generator) -> None:
    truth = random_truth(rng, 3, 1, 0, 6)
    outputs = random_outputs(len(truth))
    resized = [objects.resized((480, 333)) for objects in truth]
    losses = [ssd_loss(outputs, targets_of(objects), match_iou=0.5)["total"].item() for objects in (truth, resized)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_images_without_objects_train_background() -> None:
    outputs = random_outputs(2)
    losses = ssd_loss(outputs, targets_of([NO_OBJECTS, NO_OBJECTS]), match_iou=0.5)
    losses["total"].backward()
    assert losses["boxes"].item() == 0
    assert outputs.class_logits.grad is not None
    assert (outputs.class_logits.grad[..., 0] < 0).sum() == 6  # three hard negatives in each image
