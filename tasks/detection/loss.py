"""The losses: SSD's multibox loss, and those of Faster R-CNN's two stages."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_convert

from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.detection.boxes import encode
from tasks.detection.config import BACKGROUND_IOU, Scores
from tasks.detection.faster_rcnn import FasterRCNNOutputs, build_region_matcher
from tasks.detection.matching import DetectionTargets, assign, gather_rows, match_anchors, sample_balanced
from tasks.detection.ssd import SSDOutputs

NEGATIVES_PER_POSITIVE = 3  # of SSD
NUM_SAMPLED_ANCHORS = 256
POSITIVE_FRACTION = 0.5
SMOOTH_L1_BETA = 1 / 9  # of Faster R-CNN, as in torchvision
IGNORED = -100  # cross_entropy's default ignore_index


def ssd_loss(
    outputs: SSDOutputs,
    targets: DetectionTargets,
    world: World = SINGLE_PROCESS,
    *,
    match_iou: float,
    scores: Scores = "softmax",
) -> dict[str, Tensor]:
    """Multibox loss: classification of matched anchors and hard negatives, and box regression of matched anchors.

        total = (cross-entropy over positives and 3 times as many negatives + smooth L1 over positives) / positives

    Args:
        outputs: of N images.
        targets: their objects.
        match_iou: lowest IoU at which an anchor is matched to an object.
        scores: with `sigmoid`, the cross-entropy is the sum over classes of the binary one.
        world: the processes that share the batch.

    Returns:
        Scalars `total`, `classes`, `boxes`.

    Source: Liu et al. 2016, equations 1-3 and "Hard negative mining".
    """
    anchors = outputs.anchors
    matched, positive = match_anchors(targets, anchors, match_iou)
    class_ids = targets.class_ids.gather(1, matched)
    num_positives = positive.sum(1, keepdim=True)
    normalizer = world.normalizer(num_positives.sum())

    cross_entropy = (_binary if scores == "sigmoid" else _categorical)(outputs.class_logits, class_ids, positive)
    hardness = cross_entropy.detach().masked_fill(positive, -1.0)
    rank = hardness.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    # Images without objects have hard negatives, too.
    hard_negative = ~positive & (rank < (NEGATIVES_PER_POSITIVE * num_positives).clamp(min=NEGATIVES_PER_POSITIVE))
    # Masks instead of indexing, whose output size would make the CPU wait for the GPU.
    classes = cross_entropy.masked_fill(~(positive | hard_negative), 0).sum() / normalizer

    boxes_xyxy = torch.where(
        positive[..., None], gather_rows(targets.boxes_xyxy, matched), box_convert(anchors, "cxcywh", "xyxy")
    )
    distances = functional.smooth_l1_loss(outputs.box_deltas, encode(boxes_xyxy, anchors), reduction="none")
    boxes = distances.masked_fill(~positive[..., None], 0).sum() / normalizer
    return {"total": classes + boxes, "classes": classes, "boxes": boxes}


def _categorical(logits: Tensor, class_ids: Tensor, positive: Tensor) -> Tensor:
    """(N, A) cross-entropy of logits (N, A, K + 1), background first."""
    labels = torch.where(positive, class_ids + 1, 0)
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)


def _binary(logits: Tensor, class_ids: Tensor, positive: Tensor) -> Tensor:
    """(N, A) sum over the classes of the binary cross-entropy of logits (N, A, K), log(1 + e^x) - x y."""
    of_class = logits.gather(2, class_ids.clamp(min=0)[..., None])[..., 0]
    return functional.softplus(logits).sum(2) - of_class.masked_fill(~positive, 0)


def faster_rcnn_loss(
    outputs: FasterRCNNOutputs, targets: DetectionTargets, world: World = SINGLE_PROCESS, *, match_iou: float
) -> dict[str, Tensor]:
    """The losses of both stages: classification, and box regression of matched anchors and regions.

        total = (cross-entropy + smooth L1) over 256 sampled anchors / their number + the same over the regions

    Args:
        outputs: of N images, with the regions sampled from `targets`.
        targets: their objects.
        match_iou: lowest IoU at which an anchor is matched to an object.
        world: the processes that share the batch.

    Returns:
        Scalars `total`, `objectness`, `proposals`, `classes`, `boxes`.

    Source: Ren et al. 2015 (arXiv:1506.01497), equation 1; Girshick 2015 (arXiv:1504.08083), equation 1.
    """
    anchors = outputs.anchors
    matcher = Matcher(match_iou, BACKGROUND_IOU, allow_low_quality_matches=True)
    assigned = assign(box_convert(anchors, "cxcywh", "xyxy")[None], targets, matcher)
    positive, negative = sample_balanced(assigned, NUM_SAMPLED_ANCHORS, POSITIVE_FRACTION, targets.seeds)
    sampled = positive | negative
    num_anchors = world.normalizer(sampled.sum())
    objectness = functional.binary_cross_entropy_with_logits(
        outputs.objectness[sampled], positive[sampled].float(), reduction="sum"
    )
    boxes_xyxy = gather_rows(targets.boxes_xyxy, assigned.clamp(min=0))[positive]
    deltas = encode(boxes_xyxy, anchors.expand(len(assigned), -1, -1)[positive])
    proposals = _smooth_l1(outputs.anchor_deltas[positive], deltas)

    regions = outputs.regions_xyxy
    assigned = assign(regions, targets, build_region_matcher())
    positive, negative = assigned >= 0, assigned == Matcher.BELOW_LOW_THRESHOLD
    num_regions = world.normalizer((positive | negative).sum())
    class_ids = torch.where(positive, targets.class_ids.gather(1, assigned.clamp(min=0)) + 1, 0)
    labels = class_ids.masked_fill(~(positive | negative), IGNORED)
    classes = functional.cross_entropy(outputs.class_logits.flatten(0, 1), labels.flatten(), reduction="sum")
    boxes_xyxy = gather_rows(targets.boxes_xyxy, assigned.clamp(min=0))[positive]
    class_deltas = outputs.box_deltas[positive, class_ids[positive]]
    boxes = _smooth_l1(class_deltas, encode(boxes_xyxy, box_convert(regions, "xyxy", "cxcywh")[positive]))

    losses = {
        "objectness": objectness / num_anchors,
        "proposals": proposals / num_anchors,
        "classes": classes / num_regions,
        "boxes": boxes / num_regions,
    }
    return {"total": torch.stack(list(losses.values())).sum(), **losses}


def _smooth_l1(deltas: Tensor, targets: Tensor) -> Tensor:
    return functional.smooth_l1_loss(deltas, targets, beta=SMOOTH_L1_BETA, reduction="sum")
