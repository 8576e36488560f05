"""Which object an anchor or a region is matched to, and which of them a detector learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_convert, box_iou

from datasets.types import Detections, Example
from tasks.detection.boxes import have_area

_BITS_32 = 0xFFFFFFFF


class DetectionTargets(NamedTuple):
    """Objects of N images padded to M each, at least one.

    Attributes:
        boxes_xyxy: float32 (N, M, 4), as shares of the image; without area where there is no object.
        class_ids: int64 (N, M), 0-based, -1 where there is no object.
        seeds: int64 (N,), of what is sampled in each image.
    """

    boxes_xyxy: Tensor
    class_ids: Tensor
    seeds: Tensor


def detection_targets(examples: Sequence[Example[Detections]]) -> DetectionTargets:
    """The objects of a batch, padded."""
    most = max([1, *(len(example.truth) for example in examples)])
    boxes_xyxy = np.zeros((len(examples), most, 4), np.float32)
    class_ids = np.full((len(examples), most), -1, np.int64)
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
    """Which object each anchor is matched to: the one it overlaps most, if that is enough; and every object has the
    anchor that overlaps it most, whatever the overlap (of two objects with the same best anchor, the first has it).

    Image by image, since all overlaps of a batch at once take gigabytes where one image has hundreds of objects.

    Args:
        targets: objects of N images.
        anchors: (A, 4) centre and size.
        match_iou: the overlap that is enough, in (0, 1].

    Returns:
        (N, A) position of the object in its image, and (N, A) whether there is one.

    Source: Liu et al. 2016 (arXiv:1512.02325), section 2.2, "Matching strategy".
    """
    corners = box_convert(anchors, "cxcywh", "xyxy")
    images = [_match_image(corners, *objects) for objects in zip(targets.boxes_xyxy, targets.class_ids, strict=True)]
    overlaps, matched = (torch.stack(column) for column in zip(*images, strict=True))
    return matched, overlaps >= match_iou


def _match_image(anchors_xyxy: Tensor, boxes_xyxy: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(A,) the largest overlap of each anchor, 2 where it is an object's best one, and (A,) that object."""
    exists = class_ids >= 0
    overlaps = box_iou(anchors_xyxy, boxes_xyxy).masked_fill_(~exists, -1.0)  # (A, M)
    # torchvision's SSDMatcher is not used: of two objects with the same best anchor it keeps the last, on CUDA either.
    overlaps.scatter_(0, overlaps.argmax(0)[None], torch.where(exists, 2.0, -1.0)[None])
    largest, matched = overlaps.max(1)
    return largest, matched


def assign(boxes_xyxy: Tensor, targets: DetectionTargets, matcher: Matcher) -> Tensor:
    """Which object of its image each box is matched to.

    Args:
        boxes_xyxy: (N, R, 4), or (1, R, 4) where they are the same in all images.
        targets: objects of N images.
        matcher: knows how much overlap is enough.

    Returns:
        (N, R): the object's position; `matcher.BELOW_LOW_THRESHOLD` for background; `matcher.BETWEEN_THRESHOLDS` for
        neither, and for boxes without area.
    """
    rows = []
    images = zip(boxes_xyxy.expand(len(targets.class_ids), -1, -1), *targets[:2], strict=True)
    for boxes, objects, class_ids in images:
        exists = class_ids >= 0
        if exists.any():
            matched = matcher(box_iou(objects[exists], boxes))
        else:  # the matcher does not take none
            matched = torch.full_like(boxes[:, 0], matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        rows.append(matched.masked_fill(~have_area(boxes), matcher.BETWEEN_THRESHOLDS))
    return torch.stack(rows)


def sample(assigned: Tensor, number: int, positive_fraction: float, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """A random choice among boxes, at most `positive_fraction` of them with an object.

    It depends on each image's seed alone, not on the process that has the image.

    Args:
        assigned: (N, R), from `assign`.
        number: chosen in each image, fewer where there are not as many.
        positive_fraction: of the number.
        seeds: (N,), of the choice.

    Returns:
        (N, R) the chosen boxes with an object, and (N, R) the chosen ones of background.
    """
    order = random_numbers(seeds, assigned.shape[1])
    is_positive, is_negative = assigned >= 0, assigned == Matcher.BELOW_LOW_THRESHOLD
    positive = is_positive & (_rank(order, is_positive) < int(number * positive_fraction))
    room = number - positive.sum(1, keepdim=True)
    return positive, is_negative & (_rank(order, is_negative) < room)


def _rank(order: Tensor, among: Tensor) -> Tensor:
    """(N, R) the position of each box in the order of those that are among the candidates; the others come last."""
    return order.masked_fill(~among, 2.0).argsort(dim=1, stable=True).argsort(dim=1)


def random_numbers(seeds: Tensor, number: int) -> Tensor:
    """(N,) seeds -> (N, number) numbers in [0, 1) that look random: a hash of seed and position.

    torch's generators have one state for all images, and so would give an image other numbers in another process.

    Source: "lowbias32", a 32-bit integer hash by Chris Wellons (public domain).
    """
    x = seeds[:, None] * 0x9E3779B1 + torch.arange(number, device=seeds.device)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = x & _BITS_32
        x = (x ^ (x >> shift)) * factor
    x = x & _BITS_32
    return (x ^ (x >> 16)).double() / 2**32
