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
from tasks.common.task import FailureCase, Metric
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

    def __init__(self, class_names: Sequence[str]) -> None:
        """Args: class_names: in the order of class ids."""
        self._class_names = class_names
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
        scores = np.ones(len(detections)) if detections.scores is None else detections.scores
        rows = zip(_to_xywh(detections).tolist(), detections.class_ids.tolist(), scores.tolist(), strict=True)
        results += [
            {"image_id": image_id, "category_id": class_id, "bbox": box, "score": score}
            for box, class_id, score in rows
        ]
    return results


def worst_false_positive(
    predicted: Detections, truth: Detections, class_names: Sequence[str]
) -> FailureCase[Detections] | None:
    """The false positive with the highest score, by COCO's protocol at an IoU of 0.5, and its kind of error.

    Boxes are matched in descending order of score. A false positive has the wrong class, is a duplicate, is poorly
    localised, or lies on background.
    """
    predicted = predicted.resized(truth.image_hw)
    if predicted.scores is None:
        return None
    ious, is_crowd = np.zeros((len(predicted), len(truth))), _is_crowd(truth)
    if ious.size:
        ious[:] = iou(_to_xywh(predicted), _to_xywh(truth), is_crowd.astype(np.uint8))
    is_unmatched = np.ones(len(truth), bool)
    for row in np.argsort(-predicted.scores, kind="stable"):
        same_class = truth.class_ids == predicted.class_ids[row]
        available_ious = ious[row] * (same_class & (is_unmatched | is_crowd))
        if len(truth) and available_ious.max() >= MATCH_IOU:
            is_unmatched[available_ious.argmax()] = False
            continue
        error = _error_kind(ious[row], same_class, truth, class_names)
        text = f"{class_names[predicted.class_ids[row]]}: {error}"
        return FailureCase(float(predicted.scores[row]), text, predicted.select(np.array([row])))
    return None


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


def _is_crowd(truth: Detections) -> NDArray[np.bool_]:
    return np.zeros(len(truth), bool) if truth.is_crowd is None else truth.is_crowd


def _to_xywh(objects: Detections) -> NDArray[np.float64]:
    boxes = objects.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
