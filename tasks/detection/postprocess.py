"""From scores for every place and class to the boxes of an image, vectorised over images and classes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from datasets.types import Detections

CANDIDATES_PER_DETECTION = 5  # enough in nearly all images


class PostprocessConfig(NamedTuple):
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


def postprocess(
    scores: Tensor, boxes_of: Callable[[Tensor, Tensor], Tensor], limits: PostprocessConfig
) -> list[Detections]:
    """Scored boxes of each image, best first.

    Every place may give a box for several classes; of overlapping boxes of one class the best stays.

    Which boxes survive depends only on those that score more. So the best few hundred candidates are looked at first,
    and more only if too few of these survive: the result is that of all, and few boxes are computed at all.

    Args:
        scores: (N, P, K), of each place and class.
        boxes_of: (C,) places from 0 to N * P and (C,) classes -> their boxes (C, 4), as shares of the image.
        limits: what is kept.
    """
    num_images, num_places, _ = scores.shape
    scores = scores.flatten(0, 1)
    places, class_ids = (scores >= limits.score_threshold).nonzero().unbind(1)  # of the candidates, image by image
    values = scores[places, class_ids]
    counts = torch.bincount(places // num_places, minlength=num_images).tolist()
    number = CANDIDATES_PER_DETECTION * limits.max_detections
    while True:
        fewer = [min(count, number) for count in counts]
        some = (places, class_ids, values)
        if fewer != counts:
            chosen = _best_of_each(values, counts, number)
            some = (places[chosen], class_ids[chosen], values[chosen])
        boxes_xyxy = boxes_of(some[0], some[1]).clamp(0, 1) * limits.input_size
        detections = _suppress(boxes_xyxy, some[1], some[2], fewer, limits)
        if all(
            len(found) == limits.max_detections or less == count
            for found, less, count in zip(detections, fewer, counts, strict=True)
        ):
            return detections
        number *= 4


def _best_of_each(values: Tensor, counts: list[int], number: int) -> Tensor:
    """Where the highest values of each image are, at most `number` of them; `counts` is how many an image has."""
    firsts = itertools.accumulate(counts, initial=0)
    pairs = zip(firsts, torch.split(values, counts), strict=False)
    return torch.cat([first + own.topk(min(len(own), number)).indices for first, own in pairs])


def _suppress(
    boxes_xyxy: Tensor, class_ids: Tensor, scores: Tensor, counts: list[int], limits: PostprocessConfig
) -> list[Detections]:
    """Of the candidates of all images, one after the other, those that no better one of their image and class overlaps.

    torchvision's `batched_nms` for many images, whose small operations are done for all at once.
    """
    apart = torch.add(boxes_xyxy, class_ids[:, None], alpha=limits.input_size + 1)  # no two classes overlap
    boxes, classes, values = (tensor.cpu().numpy() for tensor in (boxes_xyxy, class_ids, scores))
    has_area = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    frame = (limits.input_size, limits.input_size)
    detections = []
    first = 0
    for own_boxes, own_scores in zip(torch.split(apart, counts), torch.split(scores, counts), strict=True):
        kept = first + nms(own_boxes, own_scores, limits.nms_iou).cpu().numpy()
        kept = kept[has_area[kept]][: limits.max_detections]
        detections.append(Detections(boxes[kept], classes[kept], frame, scores=values[kept]))
        first += len(own_boxes)
    return detections
