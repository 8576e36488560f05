"""The vectorised loss against one that is written as the paper words it, image by image and anchor by anchor."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import box_iou

from datasets.types import Detections
from tasks.detection.anchors import build_anchors, ssd_shapes
from tasks.detection.boxes import encode, to_xyxy
from tasks.detection.loss import ssd_loss
from tasks.detection.matching import match_anchors, pack
from tasks.detection.ssd import SSDOutputs
from tests.tasks.detection.objects import NUM_CLASSES, random_truth

ANCHORS = build_anchors([torch.zeros(1, 1, grid, grid) for grid in (6, 3, 2, 1, 1, 1)], ssd_shapes())


def random_outputs(num_images: int) -> SSDOutputs:
    num_anchors = len(ANCHORS)
    return SSDOutputs(
        torch.randn(num_images, num_anchors, NUM_CLASSES + 1, requires_grad=True),
        torch.randn(num_images, num_anchors, 4, requires_grad=True),
        ANCHORS,
    )


def slow_loss(outputs: SSDOutputs, truth: list[Detections]) -> tuple[float, float]:
    classes = boxes = 0.0
    num_positives = 0
    for logits, deltas, objects in zip(outputs.class_logits, outputs.box_deltas, truth, strict=True):
        stands_for: dict[int, int] = {}
        true_boxes = torch.from_numpy(objects.boxes_xyxy / 96)
        if len(objects):
            iou = box_iou(to_xyxy(ANCHORS), true_boxes)
            for anchor in range(len(ANCHORS)):
                if iou[anchor].max() >= 0.5:
                    stands_for[anchor] = int(iou[anchor].argmax())
            for row in reversed(range(len(objects))):
                stands_for[int(iou[:, row].argmax())] = row
        background = []
        for anchor in range(len(ANCHORS)):
            row = stands_for.get(anchor)
            target = 0 if row is None else int(objects.class_ids[row]) + 1
            value = functional.cross_entropy(logits[anchor][None], torch.tensor([target])).item()
            if row is None:
                background.append(value)
            else:
                classes += value
                expected = encode(true_boxes[row], ANCHORS[anchor])
                boxes += functional.smooth_l1_loss(deltas[anchor], expected, reduction="sum").item()
        num_positives += len(stands_for)
        classes += sum(sorted(background)[::-1][: max(3, 3 * len(stands_for))])
    return classes / num_positives, boxes / num_positives


def test_equals_the_slow_one(rng: np.random.Generator) -> None:
    truth = random_truth(rng, 3, 1, 0, 6)
    outputs = random_outputs(len(truth))
    losses = ssd_loss(outputs, truth, match_iou=0.5)
    classes, boxes = slow_loss(outputs, truth)
    assert losses["classes"].item() == pytest.approx(classes, rel=1e-5)
    assert losses["boxes"].item() == pytest.approx(boxes, rel=1e-5)
    assert losses["total"].item() == pytest.approx(classes + boxes, rel=1e-5)


def test_every_object_has_its_best_anchor() -> None:
    """Even where no anchor overlaps it by enough; of two objects with one best anchor the first has it."""
    boxes = np.array([[2, 2, 9, 9], [40, 50, 47, 57], [3, 3, 10, 10], [10, 20, 96, 90]], np.float32)
    truth = [Detections(boxes, np.zeros(4, np.int64), (96, 96))]
    matched, positive = match_anchors(pack(truth), ANCHORS, 0.99)
    best = box_iou(to_xyxy(ANCHORS), torch.from_numpy(boxes / 96)).argmax(0).tolist()
    assert best[0] == best[2]
    assert positive[0].nonzero()[:, 0].tolist() == sorted({*best})
    assert [matched[0, anchor].item() for anchor in best] == [0, 1, 0, 3]


def test_perfect_outputs_cost_nothing(rng: np.random.Generator) -> None:
    truth = random_truth(rng, 3, 1, 0, 6)
    packed = pack(truth)
    matched, positive = match_anchors(packed, ANCHORS, 0.5)
    targets = torch.where(positive, packed.class_ids.gather(1, matched) + 1, 0)
    boxes = packed.boxes_xyxy.gather(1, matched[..., None].expand(-1, -1, 4))
    deltas = torch.where(positive[..., None], encode(boxes, ANCHORS), 0.0)
    logits = 50.0 * functional.one_hot(targets, NUM_CLASSES + 1)
    losses = ssd_loss(SSDOutputs(logits, deltas, ANCHORS), truth, match_iou=0.5)
    assert losses["total"].item() < 1e-6


def test_frame_of_the_truth_does_not_matter(rng: np.random.Generator) -> None:
    truth = random_truth(rng, 3, 1, 0, 6)
    outputs = random_outputs(len(truth))
    here, there = (
        ssd_loss(outputs, some, match_iou=0.5)["total"].item()
        for some in (truth, [objects.resized((480, 333)) for objects in truth])
    )
    assert here == pytest.approx(there, rel=1e-4)


def test_images_without_objects_teach_background() -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (96, 96))
    outputs = random_outputs(2)
    losses = ssd_loss(outputs, [nothing, nothing], match_iou=0.5)
    losses["total"].backward()
    assert losses["boxes"].item() == 0
    assert outputs.class_logits.grad is not None
    assert (outputs.class_logits.grad[..., 0] < 0).sum() == 6  # three hard ones in each image
