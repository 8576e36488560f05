"""From the scores of every anchor (or region) and class to the boxes of an image, for all images at once."""

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
    """Thresholds of postprocessing.

    Attributes:
        input_size: side in pixels of the frame that boxes are returned in.
        score_threshold: boxes with a lower score are dropped.
        nms_iou: IoU threshold of non-maximum suppression, per class.
        max_detections: boxes kept per image, at most.
    """

    input_size: int
    score_threshold: float
    nms_iou: float
    max_detections: int


def postprocess(
    scores: Tensor, decode_boxes: Callable[[Tensor, Tensor], Tensor], config: PostprocessConfig
) -> list[Detections]:
    """Scored boxes of each image after non-maximum suppression per class, best first.

    Only boxes with higher scores suppress a box. So the few hundred best candidates are tried first, and more only if
    too few of them survive: the result is the same as from all candidates, and few boxes are decoded.

    Args:
        scores: (N, A, K), of each anchor (or region) and class.
        decode_boxes: (C,) rows from 0 to N * A and (C,) classes -> their boxes (C, 4), as fractions of the image.
        config: the thresholds.
    """
    num_images, num_anchors, _ = scores.shape
    scores = scores.flatten(0, 1)
    rows, class_ids = (scores >= config.score_threshold).nonzero().unbind(1)  # of the candidates, image by image
    candidate_scores = scores[rows, class_ids]
    counts = torch.bincount(rows // num_anchors, minlength=num_images).tolist()
    max_candidates = CANDIDATES_PER_DETECTION * config.max_detections
    while True:
        top_counts = [min(count, max_candidates) for count in counts]
        candidates = (rows, class_ids, candidate_scores)
        if top_counts != counts:
            top = _topk_per_image(candidate_scores, counts, max_candidates)
            candidates = (rows[top], class_ids[top], candidate_scores[top])
        boxes_xyxy = decode_boxes(candidates[0], candidates[1]).clamp(0, 1) * config.input_size
        detections = _batched_nms(boxes_xyxy, candidates[1], candidates[2], top_counts, config)
        if all(
            len(kept) == config.max_detections or top_count == count
            for kept, top_count, count in zip(detections, top_counts, counts, strict=True)
        ):
            return detections
        max_candidates *= 4


def _topk_per_image(scores: Tensor, counts: list[int], k: int) -> Tensor:
    """Positions of the k highest scores of each image; `counts` are the candidates per image."""
    starts = itertools.accumulate(counts, initial=0)
    pairs = zip(starts, torch.split(scores, counts), strict=False)
    return torch.cat([start + image_scores.topk(min(len(image_scores), k)).indices for start, image_scores in pairs])


def _batched_nms(
    boxes_xyxy: Tensor, class_ids: Tensor, scores: Tensor, counts: list[int], config: PostprocessConfig
) -> list[Detections]:
    """Non-maximum suppression per image and class; `counts` are the candidates per image, one image after the other.

    The class-offset trick of torchvision's `batched_nms`, with its small operations done for all images at once.
    """
    offset_boxes = torch.add(boxes_xyxy, class_ids[:, None], alpha=config.input_size + 1)  # no two classes overlap
    boxes, classes, box_scores = (tensor.cpu().numpy() for tensor in (boxes_xyxy, class_ids, scores))
    is_valid = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    image_hw = (config.input_size, config.input_size)
    detections = []
    start = 0
    for image_boxes, image_scores in zip(torch.split(offset_boxes, counts), torch.split(scores, counts), strict=True):
        kept = start + nms(image_boxes, image_scores, config.nms_iou).cpu().numpy()
        kept = kept[is_valid[kept]][: config.max_detections]
        detections.append(Detections(boxes[kept], classes[kept], image_hw, scores=box_scores[kept]))
        start += len(image_boxes)
    return detections
