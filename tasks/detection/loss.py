"""SSD's multibox loss, vectorised over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Detections
from tasks.detection.anchors import encode, to_xyxy
from tasks.detection.model import DetectionOutputs

NEGATIVES_PER_POSITIVE = 3


class Truth(NamedTuple):
    """Objects of N images padded to M each.

    Attributes:
        boxes_xyxy: (N, M, 4), as shares of the image.
        class_ids: (N, M), 0-based, -1 where there is no object.
    """

    boxes_xyxy: Tensor
    class_ids: Tensor


def pack(truth: Sequence[Detections], device: torch.device) -> Truth:
    """Truth as tensors on a device; M is at least 1."""
    most = max(1, *(len(objects) for objects in truth)) if truth else 1
    boxes_xyxy = np.zeros((len(truth), most, 4), np.float32)
    class_ids = np.full((len(truth), most), -1, np.int64)
    for row, objects in enumerate(truth):
        boxes_xyxy[row, : len(objects)] = objects.resized((1, 1)).boxes_xyxy
        class_ids[row, : len(objects)] = objects.class_ids
    return Truth(torch.from_numpy(boxes_xyxy).to(device), torch.from_numpy(class_ids).to(device))


def match(truth: Truth, anchors: Tensor, match_iou: float) -> tuple[Tensor, Tensor]:
    """Which object each anchor stands for: the one it overlaps most, if that is enough; and every object has the
    anchor that overlaps it most, whatever the overlap (of two objects with the same best anchor, the first has it).

    Args:
        truth: objects of N images.
        anchors: (A, 4) centre and size.
        match_iou: the overlap that is enough, in (0, 1].

    Returns:
        (N, A) position of the object in its image, and (N, A) whether there is one.

    Source: Liu et al. 2016, section 2.2, "Matching strategy".
    """
    iou = _iou(to_xyxy(anchors), truth.boxes_xyxy)  # (N, A, M)
    exists = truth.class_ids >= 0
    iou = iou.masked_fill(~exists[:, None], -1.0)
    best_anchor = iou.argmax(1)  # (N, M)
    iou.scatter_(1, best_anchor[:, None], torch.where(exists, 2.0, -1.0)[:, None])  # more than any overlap
    overlap, matched = iou.max(2)
    return matched, overlap >= match_iou


def detection_loss(
    outputs: DetectionOutputs, truth: Sequence[Detections], anchors: Tensor, *, match_iou: float
) -> dict[str, Tensor]:
    """Classification of matched anchors and the hardest background ones, and offsets of matched anchors.

        total = (cross-entropy over positives and 3 times as many negatives + smooth L1 over positives) / positives

    Args:
        outputs: of N images.
        truth: N sets of objects, in any frame.
        anchors: (A, 4) centre and size.
        match_iou: an anchor stands for the object that it overlaps at least so much.

    Returns:
        Scalars `total`, `classes`, `boxes`.

    Source: Liu et al. 2016, equations 1-3 and "Hard negative mining".
    """
    packed = pack(truth, outputs.class_logits.device)
    matched, positive = match(packed, anchors, match_iou)
    targets = packed.class_ids.gather(1, matched) + 1
    targets = torch.where(positive, targets, 0)
    num_positives = positive.sum(1, keepdim=True)
    total_positives = num_positives.sum().clamp(min=1)

    cross_entropy = functional.cross_entropy(outputs.class_logits.flatten(0, 1), targets.flatten(), reduction="none")
    cross_entropy = cross_entropy.view_as(targets)
    hardness = cross_entropy.detach().masked_fill(positive, -1.0)
    rank = hardness.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    # At least one, so that an image without objects teaches that there are none.
    hard = ~positive & (rank < (NEGATIVES_PER_POSITIVE * num_positives).clamp(min=NEGATIVES_PER_POSITIVE))
    classes = cross_entropy[positive | hard].sum() / total_positives

    boxes_xyxy = packed.boxes_xyxy.gather(1, matched[..., None].expand(-1, -1, 4))[positive]
    box_targets = encode(boxes_xyxy, anchors.expand(len(truth), -1, -1)[positive])
    boxes = functional.smooth_l1_loss(outputs.box_deltas[positive], box_targets, reduction="sum") / total_positives
    return {"total": classes + boxes, "classes": classes, "boxes": boxes}


def _iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Overlap of every box (A, 4) with every other (N, M, 4): (N, A, M) in [0, 1]."""
    a, b = boxes_xyxy[None, :, None], others_xyxy[:, None]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = sides.prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b))
    return shared / (area_a + area_b - shared)
