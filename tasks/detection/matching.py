"""Which object an anchor or a region stands for, and which of them a detector learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from datasets.types import Detections
from tasks.detection.boxes import have_area, iou, to_xyxy


class Truth(NamedTuple):
    """Objects of N images padded to M each.

    Attributes:
        boxes_xyxy: (N, M, 4), as shares of the image; without area where there is no object.
        class_ids: (N, M), 0-based, -1 where there is no object.
    """

    boxes_xyxy: Tensor
    class_ids: Tensor

    def to(self, device: torch.device) -> Truth:
        """The same on a device."""
        return Truth(self.boxes_xyxy.to(device), self.class_ids.to(device))


def pack(truth: Sequence[Detections]) -> Truth:
    """Truth as tensors; M is at least 1."""
    most = max(1, *(len(objects) for objects in truth)) if truth else 1
    boxes_xyxy = np.zeros((len(truth), most, 4), np.float32)
    class_ids = np.full((len(truth), most), -1, np.int64)
    for row, objects in enumerate(truth):
        boxes_xyxy[row, : len(objects)] = objects.resized((1, 1)).boxes_xyxy
        class_ids[row, : len(objects)] = objects.class_ids
    return Truth(torch.from_numpy(boxes_xyxy), torch.from_numpy(class_ids))


def gather_rows(values: Tensor, rows: Tensor) -> Tensor:
    """(N, M, D) values and (N, R) rows -> (N, R, D)."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def match_anchors(truth: Truth, anchors: Tensor, match_iou: float) -> tuple[Tensor, Tensor]:
    """Which object each anchor stands for: the one it overlaps most, if that is enough; and every object has the
    anchor that overlaps it most, whatever the overlap (of two objects with the same best anchor, the first has it).

    Args:
        truth: objects of N images.
        anchors: (A, 4) centre and size.
        match_iou: the overlap that is enough, in (0, 1].

    Returns:
        (N, A) position of the object in its image, and (N, A) whether there is one.

    Source: Liu et al. 2016 (arXiv:1512.02325), section 2.2, "Matching strategy".
    """
    overlaps = iou(to_xyxy(anchors)[None], truth.boxes_xyxy)  # (N, A, M)
    exists = truth.class_ids >= 0
    overlaps = overlaps.masked_fill(~exists[:, None], -1.0)
    best_anchor = overlaps.argmax(1)  # (N, M)
    overlaps.scatter_(1, best_anchor[:, None], torch.where(exists, 2.0, -1.0)[:, None])  # more than any overlap
    overlap, matched = overlaps.max(2)
    return matched, overlap >= match_iou


def assign(boxes_xyxy: Tensor, truth: Truth, matcher: Matcher) -> Tensor:
    """Which object of its image each box stands for.

    Args:
        boxes_xyxy: (N, R, 4), or (1, R, 4) where they are the same in all images.
        truth: objects of N images.
        matcher: knows how much overlap is enough.

    Returns:
        (N, R): the object's position; `matcher.BELOW_LOW_THRESHOLD` for background; `matcher.BETWEEN_THRESHOLDS` for
        neither, and for boxes without area.
    """
    rows = []
    for boxes, objects, class_ids in zip(boxes_xyxy.expand(len(truth.class_ids), -1, -1), *truth, strict=True):
        exists = class_ids >= 0
        if exists.any():
            matched = matcher(box_iou(objects[exists], boxes))
        else:  # the matcher does not take none
            matched = torch.full_like(boxes[:, 0], matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        rows.append(matched.masked_fill(~have_area(boxes), matcher.BETWEEN_THRESHOLDS))
    return torch.stack(rows)


def sample(assigned: Tensor, number: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """A random choice among boxes, at most `positive_share` of them with an object.

    Args:
        assigned: (N, R), from `assign`.
        number: chosen in each image, fewer where there are not as many.
        positive_share: of the number.

    Returns:
        (N, R) the chosen boxes with an object, and (N, R) the chosen ones of background.
    """
    labels = torch.where(assigned >= 0, 1, torch.where(assigned == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
    positive, negative = BalancedPositiveNegativeSampler(number, positive_share)(list(labels))
    return torch.stack(positive).bool(), torch.stack(negative).bool()
