"""Generated detector outputs and results, and torchvision's and pycocotools' processing of them.

The benchmark compares its speed with ours, and the tests its results.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from datasets.types import Detections
from tasks.detection.anchors import build_anchors, ssd_shapes
from tasks.detection.boxes import encode
from tasks.detection.faster_rcnn import FasterRCNNOutputs
from tasks.detection.matching import gather_rows
from tasks.detection.metric import coco_results, coco_truth
from tasks.detection.postprocess import PostprocessConfig
from tasks.detection.ssd import SSDOutputs

Decoder = Callable[[Any], list[Detections]]

NUM_OBJECTS = 7  # in an image: about COCO's mean
GRIDS_300 = (19, 10, 5, 3, 2, 1)
BACKGROUND_LOGIT, NOISE, OBJECT_LOGIT = 8.0, 1.5, 16.0  # gives 5,000 pairs of anchor and class over 0.01


def ssd_outputs(num_images: int, num_classes: int) -> SSDOutputs:
    """Outputs like those of a trained SSD300: high scores near some objects, and a long tail of low scores."""
    anchors = build_anchors([(grid, grid) for grid in GRIDS_300], ssd_shapes())
    objects = anchors[torch.randint(len(anchors), (num_images, NUM_OBJECTS))]
    logits, deltas = _predictions(anchors.expand(num_images, -1, -1), objects, num_classes)
    return SSDOutputs(logits, deltas, anchors)


def faster_rcnn_outputs(num_images: int, num_classes: int, num_regions: int = 300) -> FasterRCNNOutputs:
    """Outputs like those of a trained Faster R-CNN; the first stage's are not needed, and empty."""
    centres, sizes = torch.rand(num_images, num_regions, 2), torch.rand(num_images, num_regions, 2) * 0.6 + 0.03
    regions = torch.cat([centres, sizes], -1)
    objects = regions[:, :NUM_OBJECTS].clone()
    num_near = num_regions // 3
    nearest = objects[:, torch.arange(num_near) % NUM_OBJECTS]
    regions[:, :num_near] = nearest * torch.empty_like(nearest).uniform_(0.9, 1.1)
    regions_xyxy = box_convert(regions, "cxcywh", "xyxy").clamp(0, 1)
    logits, deltas = _predictions(box_convert(regions_xyxy, "xyxy", "cxcywh"), objects, num_classes)
    class_deltas = deltas[:, :, None] + 0.2 * torch.randn(num_images, num_regions, num_classes + 1, 4)
    none = torch.zeros(num_images, 0)
    return FasterRCNNOutputs(none, none[..., None].expand(-1, -1, 4), none[0], regions_xyxy, logits, class_deltas)


def _predictions(anchors_cxcywh: Tensor, objects_cxcywh: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Logits (N, A, K + 1) and deltas (N, A, 4): the class score grows with the overlap with the nearest object."""
    logits = NOISE * torch.randn(*anchors_cxcywh.shape[:2], num_classes + 1)
    logits[..., 0] += BACKGROUND_LOGIT
    anchors_xyxy = box_convert(anchors_cxcywh, "cxcywh", "xyxy")
    objects_xyxy = box_convert(objects_cxcywh, "cxcywh", "xyxy")
    pairs = zip(anchors_xyxy, objects_xyxy, strict=True)
    overlap, nearest = torch.stack([box_iou(*pair) for pair in pairs]).max(-1)
    class_ids = torch.randint(1, num_classes + 1, objects_cxcywh.shape[:2]).gather(1, nearest)
    logits.scatter_add_(2, class_ids[..., None], OBJECT_LOGIT * overlap[..., None])
    deltas = encode(gather_rows(objects_xyxy, nearest), anchors_cxcywh)
    return logits, torch.where(overlap[..., None] > 0.3, deltas, 0.0) + 0.2 * torch.randn(deltas.shape)


def torchvision_ssd(config: PostprocessConfig, *, topk_candidates: int = 400) -> Decoder:
    """The postprocessing of `torchvision.models.detection.SSD`; by default of 400 candidates of each class."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        score_thresh=config.score_threshold,
        nms_thresh=config.nms_iou,
        detections_per_img=config.max_detections,
        topk_candidates=topk_candidates,
    )

    def decode(outputs: SSDOutputs) -> list[Detections]:
        num_images, size = len(outputs.class_logits), config.input_size
        found = model.postprocess_detections(
            {"cls_logits": outputs.class_logits, "bbox_regression": outputs.box_deltas},
            [box_convert(outputs.anchors, "cxcywh", "xyxy") * size] * num_images,
            [(size, size)] * num_images,
        )
        return [_detections(image["boxes"], image["labels"], image["scores"], size) for image in found]

    return decode


def torchvision_roi_heads(config: PostprocessConfig) -> Decoder:
    """The postprocessing of `torchvision.models.detection.roi_heads.RoIHeads`."""
    from torchvision.models.detection.roi_heads import RoIHeads

    for_training = (None, None, None, 0.5, 0.5, 1, 0.5, None)
    heads = RoIHeads(*for_training, config.score_threshold, config.nms_iou, config.max_detections)

    def decode(outputs: FasterRCNNOutputs) -> list[Detections]:
        num_images, size = len(outputs.class_logits), config.input_size
        found = heads.postprocess_detections(
            outputs.class_logits.flatten(0, 1),
            outputs.box_deltas.flatten(0, 1).flatten(1),
            list(outputs.regions_xyxy * size),
            [(size, size)] * num_images,
        )
        return [_detections(boxes, labels, scores, size) for boxes, scores, labels in zip(*found, strict=True)]

    return decode


def _detections(boxes_xyxy: Tensor, labels: Tensor, scores: Tensor, size: int) -> Detections:
    return Detections(boxes_xyxy.numpy(), labels.numpy() - 1, (size, size), scores=scores.numpy())


def random_results(
    rng: np.random.Generator, num_images: int, num_boxes: int, num_classes: int
) -> tuple[list[Detections], list[Detections]]:
    """Predictions and truth, 480 by 640 px: half of the boxes are near objects, one object in fifty is a crowd."""
    predicted, truth = [], []
    for _ in range(num_images):
        boxes = _boxes(rng, rng.poisson(NUM_OBJECTS))
        class_ids = rng.integers(0, num_classes, len(boxes))
        areas = ((boxes[:, 2:] - boxes[:, :2]).prod(1) * rng.uniform(0.3, 1, len(boxes))).astype(np.float32)
        crowd = rng.random(len(boxes)) < 0.02
        truth.append(Detections(boxes, class_ids, (480, 640), is_crowd=crowd, areas_px=areas))
        guesses, guessed_ids = _boxes(rng, num_boxes), rng.integers(0, num_classes, num_boxes)
        if len(boxes):
            near = np.flatnonzero(rng.random(num_boxes) < 0.5)
            targets = rng.integers(0, len(boxes), len(near))
            shift = rng.normal(0, 0.08, (len(near), 4)) * np.tile(boxes[targets, 2:] - boxes[targets, :2], 2)
            guesses[near] = _ordered(boxes[targets] + shift)
            guessed_ids[near] = class_ids[targets]
        scores = rng.random(num_boxes).round(3).astype(np.float32)  # rounded, so that some are equal
        predicted.append(Detections(guesses, guessed_ids, (480, 640), scores=scores))
    return predicted, truth


def _boxes(rng: np.random.Generator, num_boxes: int) -> NDArray[np.float32]:
    low = rng.uniform(0, (500, 400), (num_boxes, 2))
    return _ordered(np.concatenate([low, low + rng.lognormal(4, 0.9, (num_boxes, 2))], 1))


def _ordered(boxes_xyxy: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.concatenate([np.minimum(boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - 1), boxes_xyxy[:, 2:]], 1).astype(
        np.float32
    )


def pycocotools_scores(
    predicted: Sequence[Detections], truth: Sequence[Detections], class_names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COCO's twelve metrics, and the precisions that they average, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        reference = COCO()
        reference.dataset = coco_truth(truth, class_names)
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(coco_results(predicted)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval["precision"]
