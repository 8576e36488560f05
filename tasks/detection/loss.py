"""What the detectors learn from: SSD's multibox loss, and the losses of Faster R-CNN's two stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import fastrcnn_loss

from datasets.types import Detections
from tasks.detection.boxes import encode, to_cxcywh, to_xyxy
from tasks.detection.config import BACKGROUND_IOU
from tasks.detection.faster_rcnn import FasterRCNNOutputs, region_matcher
from tasks.detection.matching import assign, gather_rows, match_anchors, pack, sample
from tasks.detection.ssd import SSDOutputs

NEGATIVES_PER_POSITIVE = 3  # of SSD
NUM_SAMPLED_ANCHORS = 256
POSITIVE_SHARE = 0.5
SMOOTH_L1_BETA = 1 / 9  # as in fastrcnn_loss
IGNORED = -100  # cross-entropy's own


def ssd_loss(outputs: SSDOutputs, truth: Sequence[Detections], *, match_iou: float) -> dict[str, Tensor]:
    """Classification of matched anchors and the hardest background ones, and offsets of matched anchors.

        total = (cross-entropy over positives and 3 times as many negatives + smooth L1 over positives) / positives

    Args:
        outputs: of N images.
        truth: N sets of objects, in any frame.
        match_iou: an anchor stands for the object that it overlaps at least so much.

    Returns:
        Scalars `total`, `classes`, `boxes`.

    Source: Liu et al. 2016, equations 1-3 and "Hard negative mining".
    """
    anchors, packed = outputs.anchors, pack(truth).to(outputs.anchors.device)
    matched, positive = match_anchors(packed, anchors, match_iou)
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

    boxes_xyxy = gather_rows(packed.boxes_xyxy, matched)[positive]
    box_targets = encode(boxes_xyxy, anchors.expand(len(truth), -1, -1)[positive])
    boxes = functional.smooth_l1_loss(outputs.box_deltas[positive], box_targets, reduction="sum") / total_positives
    return {"total": classes + boxes, "classes": classes, "boxes": boxes}


def faster_rcnn_loss(outputs: FasterRCNNOutputs, truth: Sequence[Detections], *, match_iou: float) -> dict[str, Tensor]:
    """Both stages, each by classification and by offsets of what stands for an object.

        total = cross-entropy and smooth L1 over 256 sampled anchors + the same over the regions, each by their number

    Args:
        outputs: of N images, with the regions sampled from `truth`.
        truth: N sets of objects, in any frame.
        match_iou: an anchor stands for the object that it overlaps at least so much.

    Returns:
        Scalars `total`, `objectness`, `proposals`, `classes`, `boxes`.

    Source: Ren et al. 2015 (arXiv:1506.01497), equation 1; Girshick 2015 (arXiv:1504.08083), equation 1.
    """
    packed = pack(truth).to(outputs.anchors.device)
    assigned = assign(
        to_xyxy(outputs.anchors)[None], packed, Matcher(match_iou, BACKGROUND_IOU, allow_low_quality_matches=True)
    )
    positive, negative = sample(assigned, NUM_SAMPLED_ANCHORS, POSITIVE_SHARE)
    sampled = positive | negative
    objectness = functional.binary_cross_entropy_with_logits(outputs.objectness[sampled], positive[sampled].float())
    targets = encode(gather_rows(packed.boxes_xyxy, assigned.clamp(min=0)), outputs.anchors.expand(len(truth), -1, -1))
    distance = functional.smooth_l1_loss(
        outputs.anchor_deltas[positive], targets[positive], beta=SMOOTH_L1_BETA, reduction="sum"
    )
    proposals = distance / sampled.sum()

    assigned = assign(outputs.regions_xyxy, packed, region_matcher())
    labels = packed.class_ids.gather(1, assigned.clamp(min=0)) + 1
    labels = torch.where(assigned >= 0, labels, torch.where(assigned == Matcher.BELOW_LOW_THRESHOLD, 0, IGNORED))
    targets = encode(gather_rows(packed.boxes_xyxy, assigned.clamp(min=0)), to_cxcywh(outputs.regions_xyxy))
    classes, boxes = fastrcnn_loss(
        outputs.class_logits.flatten(0, 1), outputs.box_deltas.flatten(0, 1).flatten(1), list(labels), list(targets)
    )
    return {
        "total": objectness + proposals + classes + boxes,
        "objectness": objectness,
        "proposals": proposals,
        "classes": classes,
        "boxes": boxes,
    }
