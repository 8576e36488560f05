"""Targets of a batch, the matching of anchors and regions to objects, and the sampling of both for the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_convert, box_iou

from datasets.types import Detections, Example
from tasks.detection.boxes import has_area

_BITS_32 = 0xFFFFFFFF


class DetectionTargets(NamedTuple):
    """Objects of N images, padded to M >= 1 per image.

    Attributes:
        boxes_xyxy: float32 (N, M, 4), as fractions of the image; padding has no area.
        class_ids: int64 (N, M), 0-based; -1 for padding.
        seeds: int64 (N,), of the sampling in each image.
    """

    boxes_xyxy: Tensor
    class_ids: Tensor
    seeds: Tensor


def detection_targets(examples: Sequence[Example[Detections]]) -> DetectionTargets:
    """The objects of a batch, padded."""
    max_objects = max([1, *(len(example.truth) for example in examples)])
    boxes_xyxy = np.zeros((len(examples), max_objects, 4), np.float32)
    class_ids = np.full((len(examples), max_objects), -1, np.int64)
    for row, example in enumerate(examples):
        objects = example.truth
        boxes_xyxy[row, : len(objects)] = objects.resized((1, 1)).boxes_xyxy
        class_ids[row, : len(objects)] = objects.class_ids
    seeds = torch.tensor([example.seed for example in examples], dtype=torch.int64)
    return DetectionTargets(torch.from_numpy(boxes_xyxy), torch.from_numpy(class_ids), seeds)


def gather_rows(values: Tensor, rows: Tensor) -> Tensor:
    """(N, M, D) values and (N, R) rows -> (N, R, D)."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def match_anchors(targets: DetectionTargets, anchors: Tensor, match_iou: float) -> tuple[Tensor, Tensor]:
    """Match each anchor to the object with the highest IoU, if that is at least `match_iou`.

    Every object is also matched to its best anchor, even below `match_iou`; an anchor that is the best of two objects
    is matched to the first. Images are processed one by one: the IoUs of a whole batch take gigabytes if one image has
    hundreds of objects.

    Args:
        targets: objects of N images.
        anchors: (A, 4) centre and size.
        match_iou: in (0, 1].

    Returns:
        (N, A) position of the object in its image, and (N, A) whether the anchor is matched.

    Source: Liu et al. 2016 (arXiv:1512.02325), section 2.2, "Matching strategy".
    """
    anchors_xyxy = box_convert(anchors, "cxcywh", "xyxy")
    pairs = zip(targets.boxes_xyxy, targets.class_ids, strict=True)
    images = [_match_image(anchors_xyxy, boxes_xyxy, class_ids) for boxes_xyxy, class_ids in pairs]
    max_ious, matched = (torch.stack(column) for column in zip(*images, strict=True))
    return matched, max_ious >= match_iou


def _match_image(anchors_xyxy: Tensor, boxes_xyxy: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(A,) highest IoU of each anchor, 2 where it is an object's best anchor, and (A,) position of that object."""
    is_object = class_ids >= 0
    ious = box_iou(anchors_xyxy, boxes_xyxy).masked_fill_(~is_object, -1.0)  # (A, M)
    # Not torchvision's SSDMatcher: it matches a shared best anchor to the last object, on CUDA to any of them.
    ious.scatter_(0, ious.argmax(0)[None], torch.where(is_object, 2.0, -1.0)[None])
    max_ious, matched = ious.max(1)
    return max_ious, matched


def assign(boxes_xyxy: Tensor, targets: DetectionTargets, matcher: Matcher) -> Tensor:
    """Assign each box to an object of its image, to background, or to neither.

    Args:
        boxes_xyxy: (N, R, 4), or (1, R, 4) where they are the same in all images.
        targets: objects of N images.
        matcher: holds the IoU thresholds.

    Returns:
        (N, R): position of the object; `matcher.BELOW_LOW_THRESHOLD` for background; `matcher.BETWEEN_THRESHOLDS` for
        neither, and for boxes without area.
    """
    rows = []
    images = zip(boxes_xyxy.expand(len(targets.class_ids), -1, -1), *targets[:2], strict=True)
    for boxes, objects, class_ids in images:
        is_object = class_ids >= 0
        if is_object.any():
            matched = matcher(box_iou(objects[is_object], boxes))
        else:  # the matcher raises without objects
            matched = torch.full_like(boxes[:, 0], matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        rows.append(matched.masked_fill(~has_area(boxes), matcher.BETWEEN_THRESHOLDS))
    return torch.stack(rows)


def sample_balanced(
    assigned: Tensor, num_samples: int, positive_fraction: float, seeds: Tensor
) -> tuple[Tensor, Tensor]:
    """A random sample of boxes, at most `positive_fraction` of them positive.

    It depends only on each image's seed, not on the process that has the image.

    Args:
        assigned: (N, R), from `assign`.
        num_samples: per image; fewer if there are not as many.
        positive_fraction: of `num_samples`, at most.
        seeds: (N,), one per image.

    Returns:
        (N, R) mask of the sampled positives, and (N, R) mask of the sampled negatives.
    """
    priorities = hash_uniform(seeds, assigned.shape[1])
    is_positive, is_negative = assigned >= 0, assigned == Matcher.BELOW_LOW_THRESHOLD
    positive = is_positive & (_rank(priorities, is_positive) < int(num_samples * positive_fraction))
    num_negatives = num_samples - positive.sum(1, keepdim=True)
    return positive, is_negative & (_rank(priorities, is_negative) < num_negatives)


def _rank(priorities: Tensor, is_candidate: Tensor) -> Tensor:
    """(N, R) rank of each box among the candidates, lowest priority value first; the others come last."""
    return priorities.masked_fill(~is_candidate, 2.0).argsort(dim=1, stable=True).argsort(dim=1)


def hash_uniform(seeds: Tensor, num_values: int) -> Tensor:
    """(N,) seeds -> (N, num_values) pseudo-random numbers in [0, 1): a hash of seed and position.

    A torch generator has one state for all images, so an image's numbers would depend on its process.

    Source: "lowbias32", a 32-bit integer hash by Chris Wellons (public domain).
    """
    x = seeds[:, None] * 0x9E3779B1 + torch.arange(num_values, device=seeds.device)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = x & _BITS_32
        x = (x ^ (x >> shift)) * factor
    x = x & _BITS_32
    return (x ^ (x >> 16)).double() / 2**32
