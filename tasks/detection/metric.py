"""COCO's average precision of `Detections`, and the worst false positive of an image with its kind of error.

Computed by faster-coco-eval: pycocotools' numbers (tests/tasks/detection/test_metric.py) in a sixth of the time
(`python -m results bench evaluation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core.mask import iou
from numpy.typing import NDArray

from datasets.types import Detections
from tasks.common.evaluation.report import PER_CLASS, write_csv
from tasks.common.inference_task import FailureCase, Metric
from tasks.common.thresholds import ThresholdCounts, count_at_thresholds
from tasks.detection.draw import draw_precision_recall

SCORE_NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")  # the first six of COCO's twelve
PRECISION_RECALL = "precision_recall.png"
MATCH_IOU = 0.5
MIN_LOCALISATION_IOU = 0.1  # lowest IoU with an object of its class at which a false box is a localisation error
UNDEFINED = -1.0  # COCO's value where there are no objects


class DetectionMetric(Metric[Detections]):
    """AP over IoU 0.50 to 0.95, AP50, AP75, and AP by object area.

    Source: Lin et al. 2014 (arXiv:1405.0312) and its evaluation code, pycocotools.
    """

    def __init__(self, class_names: Sequence[str], score_threshold: float = 0) -> None:
        """Args: class_names: in the order of class ids; score_threshold: boxes that score less were dropped before."""
        self._class_names, self._score_threshold = class_names, score_threshold
        self._predicted: list[Detections] = []
        self._truth: list[Detections] = []

    def update(self, predicted: Sequence[Detections], truth: Sequence[Detections]) -> None:
        """Add images; predictions are resized to the frame of the truth."""
        for image_predicted, image_truth in zip(predicted, truth, strict=True):
            self._predicted.append(image_predicted.resized(image_truth.image_hw))
            self._truth.append(image_truth)

    def merge(self, other: DetectionMetric) -> None:
        """Add the images of another metric."""
        self._predicted += other._predicted
        self._truth += other._truth

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, AP_small, AP_medium, AP_large in [0, 1]; NaN where there are no objects."""
        values = [float(value) for value in self._evaluation().stats[: len(SCORE_NAMES)]]
        return {k: float("nan") if v == UNDEFINED else v for k, v in zip(SCORE_NAMES, values, strict=True)}

    def write_details(self, folder: Path) -> None:
        """Scores of each class: `per_class.csv`; precision-recall curves: `precision_recall.png`."""
        evaluation = self._evaluation()
        precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (IoUs, recalls, classes), of all areas
        recall = evaluation.eval["recall"][:, :, 0, -1]  # (IoUs, classes)
        num_objects = Counter(class_id for truth in self._truth for class_id in truth.class_ids.tolist())
        rows = []
        for class_id, name in enumerate(self._class_names):
            row: dict[str, str | int | float] = {"class": name, "objects": num_objects[class_id]}
            scores = {
                "AP": precision[..., class_id].mean(),
                "AP50": precision[0, :, class_id].mean(),
                "AP75": precision[5, :, class_id].mean(),
                "recall_of_100": recall[:, class_id].mean(),
            }
            rows.append(row | {key: "" if value == UNDEFINED else float(value) for key, value in scores.items()})
        write_csv(folder / PER_CLASS, rows)
        draw_precision_recall(precision[0], evaluation.params.recThrs, self._class_names, folder / PRECISION_RECALL)

    def count_at_thresholds(self) -> list[ThresholdCounts]:
        """Of each class, at an IoU of 0.5. Boxes that match a crowd do not count, nor do crowds."""
        if not self._truth:
            return []
        pairs = list(zip(self._predicted, self._truth, strict=True))
        right, wrong = [], []
        for predicted, truth in pairs:
            matched = match_objects(predicted, truth)
            in_crowd = np.append(_is_crowd(truth), False)[matched]  # -1, without a match, is the last
            right.append((matched >= 0) & ~in_crowd)
            wrong.append(matched < 0)
        is_right, is_counted = np.concatenate(right), np.concatenate(right) | np.concatenate(wrong)
        scores = np.concatenate([_scores(predicted) for predicted, _ in pairs])
        class_ids = np.concatenate([predicted.class_ids for predicted, _ in pairs])
        num_objects = Counter(i for _, truth in pairs for i in truth.class_ids[~_is_crowd(truth)].tolist())
        counts = []
        for class_id, name in enumerate(self._class_names):
            rows = (class_ids == class_id) & is_counted
            counts.append(
                count_at_thresholds(name, scores[rows], is_right[rows], num_objects[class_id], self._score_threshold)
            )
        return counts

    def _evaluation(self) -> COCOeval_faster:
        truth = COCO(coco_truth(self._truth, self._class_names))
        evaluation = COCOeval_faster(truth, truth.loadRes(coco_results(self._predicted)), "bbox")
        evaluation.run()
        return evaluation


def coco_truth(truth: Sequence[Detections], class_names: Sequence[str]) -> dict[str, Any]:
    """True objects as the content of a COCO file; image and category ids are positions."""
    annotations: list[dict[str, Any]] = []
    for image_id, objects in enumerate(truth):
        boxes_xywh = _to_xywh(objects)
        areas = boxes_xywh[:, 2] * boxes_xywh[:, 3] if objects.areas_px is None else objects.areas_px
        for box, class_id, area, crowd in zip(
            boxes_xywh.tolist(), objects.class_ids.tolist(), areas.tolist(), _is_crowd(objects).tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # id 0 would count as unmatched
                    "image_id": image_id,
                    "category_id": class_id,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    return {
        "info": {},
        "images": [{"id": image_id} for image_id in range(len(truth))],
        "annotations": annotations,
        "categories": [{"id": class_id, "name": name} for class_id, name in enumerate(class_names)],
    }


def coco_results(predicted: Sequence[Detections]) -> list[dict[str, Any]]:
    """Predicted boxes as the content of a COCO results file; boxes without a score get 1."""
    results = []
    for image_id, detections in enumerate(predicted):
        rows = zip(
            _to_xywh(detections).tolist(), detections.class_ids.tolist(), _scores(detections).tolist(), strict=True
        )
        results += [
            {"image_id": image_id, "category_id": class_id, "bbox": box, "score": score}
            for box, class_id, score in rows
        ]
    return results


def worst_false_positive(
    predicted: Detections, truth: Detections, class_names: Sequence[str]
) -> FailureCase[Detections] | None:
    """The false positive with the highest score, see `match_objects`, and its kind of error.

    A false positive has the wrong class, is a duplicate, is poorly localised, or lies on background.
    """
    predicted = predicted.resized(truth.image_hw)
    is_false = match_objects(predicted, truth) < 0
    if predicted.scores is None or not is_false.any():
        return None
    row = int(np.where(is_false, predicted.scores, -1).argmax())
    class_id = predicted.class_ids[row]
    error = _error_kind(_ious(predicted, truth)[row], truth.class_ids == class_id, truth, class_names)
    text = f"{class_names[class_id]}: {error}"
    return FailureCase(float(predicted.scores[row]), text, predicted.select(np.array([row])))


def match_objects(predicted: Detections, truth: Detections) -> NDArray[np.int64]:
    """The object that each box of an image matches, by COCO's protocol at an IoU of 0.5.

    In descending order of score, a box matches the free object of its class with the highest IoU, or else a crowd,
    which any number of boxes match.

    Args:
        predicted: in the frame of the truth.
        truth: of the image.

    Returns:
        (N,), rows of the truth; -1 for a box without a match.
    """
    is_crowd = _is_crowd(truth)
    ious = _ious(predicted, truth) * (predicted.class_ids[:, None] == truth.class_ids)
    matched, is_free = np.full(len(predicted), -1), ~is_crowd
    overlaps = (ious >= MATCH_IOU).any(1)
    for row in np.argsort(-_scores(predicted), kind="stable"):
        for is_candidate in (is_free, is_crowd) if overlaps[row] else ():
            candidates = np.flatnonzero(is_candidate & (ious[row] >= MATCH_IOU))
            if len(candidates):
                best = candidates[ious[row, candidates] == ious[row, candidates].max()][-1]  # of equal ones the last
                matched[row], is_free[best] = best, False
                break
    return matched


def _error_kind(
    ious: NDArray[np.float64], same_class: NDArray[np.bool_], truth: Detections, class_names: Sequence[str]
) -> str:
    same_class_iou, other_class_iou = (float((ious * mask).max(initial=0)) for mask in (same_class, ~same_class))
    if same_class_iou >= MATCH_IOU:
        return "duplicate"
    if other_class_iou >= MATCH_IOU:
        return f"wrong class ({class_names[truth.class_ids[int((ious * ~same_class).argmax())]]})"
    if same_class_iou >= MIN_LOCALISATION_IOU:
        return f"poor localisation, IoU {same_class_iou:.2f}"
    return "background"


def _ious(predicted: Detections, truth: Detections) -> NDArray[np.float64]:
    """(N, M); with a crowd, the fraction of the box that lies in it."""
    ious = np.zeros((len(predicted), len(truth)))
    if ious.size:
        ious[:] = iou(_to_xywh(predicted), _to_xywh(truth), _is_crowd(truth).astype(np.uint8))
    return ious


def _scores(objects: Detections) -> NDArray[np.float32]:
    return np.ones(len(objects), np.float32) if objects.scores is None else objects.scores


def _is_crowd(truth: Detections) -> NDArray[np.bool_]:
    return np.zeros(len(truth), bool) if truth.is_crowd is None else truth.is_crowd


def _to_xywh(objects: Detections) -> NDArray[np.float64]:
    boxes = objects.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
