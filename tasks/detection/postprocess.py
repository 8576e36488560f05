"""From scores for every place and class to the boxes of an image, vectorised over images and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from datasets.types import Detections
from tasks.detection.boxes import have_area

FIRST_CANDIDATES = 1000  # of an image: enough in nearly all


class Limits(NamedTuple):
    """What is kept.

    Attributes:
        input_size: side in pixels of the frame that boxes are returned in.
        score_threshold: boxes that score less are dropped.
        nms_iou: a box that overlaps a better one of its class by more is dropped.
        max_detections: an image keeps at most so many.
    """

    input_size: int
    score_threshold: float
    nms_iou: float
    max_detections: int


def best_boxes(scores: Tensor, boxes_of: Callable[[Tensor, Tensor], Tensor], limits: Limits) -> list[Detections]:
    """Scored boxes of each image, best first.

    Every place may give a box for several classes; of overlapping boxes of one class the best stays.

    Which boxes survive depends only on those that score more. So the best 1,000 candidates are looked at first, and
    more only if too few of these survive: the result is that of all, and few boxes are computed at all.

    Args:
        scores: (N, P, K), of each place and class.
        boxes_of: (N, C) place and (N, C) class of C candidates in each image -> their boxes (N, C, 4), as shares.
        limits: what is kept.
    """
    num_images, num_places, num_classes = scores.shape
    scores = scores.reshape(num_images, -1)
    number = FIRST_CANDIDATES
    while True:
        number = min(number, num_places * num_classes)
        best, rows = scores.topk(number)
        class_ids = rows % num_classes
        boxes_xyxy = boxes_of(rows // num_classes, class_ids).clamp(0, 1) * limits.input_size
        candidates = (best >= limits.score_threshold) & have_area(boxes_xyxy)
        detections = [
            _suppress(boxes[keep], values[keep], classes[keep], limits)
            for keep, boxes, values, classes in zip(candidates, boxes_xyxy, best, class_ids, strict=True)
        ]
        if number == num_places * num_classes or all(
            len(found) == limits.max_detections or last < limits.score_threshold
            for found, last in zip(detections, best[:, -1].tolist(), strict=True)
        ):
            return detections
        number *= 4


def _suppress(boxes_xyxy: Tensor, scores: Tensor, class_ids: Tensor, limits: Limits) -> Detections:
    kept = batched_nms(boxes_xyxy, scores, class_ids, limits.nms_iou)[: limits.max_detections]
    boxes, classes, values = (tensor[kept].cpu().numpy() for tensor in (boxes_xyxy, class_ids, scores))
    return Detections(boxes, classes, (limits.input_size, limits.input_size), scores=values)


def gather_rows(values: Tensor, rows: Tensor) -> Tensor:
    """(N, P, D) values and (N, C) rows -> (N, C, D)."""
    return torch.gather(values, 1, rows[..., None].expand(-1, -1, values.shape[-1]))
