"""COCO's average precision from our own types, and what kind of mistake a false box is.

Computed by faster-coco-eval: pycocotools' numbers (tests/tasks/detection/test_metric.py) in a sixth of its time
(`python -m tasks.detection.throughput evaluation`).
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

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")  # the first of COCO's twelve
PRECISION_RECALL = "precision_recall.png"
MATCH_IOU = 0.5
NEAR_IOU = 0.1  # a box that overlaps an object of its class by so much means that object
NOT_DEFINED = -1.0  # what COCO's evaluation says where there is no object to find


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
        """Take in some images; predictions are brought into the frame of the truth."""
        for some, true in zip(predicted, truth, strict=True):
            self._predicted.append(some.resized(true.image_hw))
            self._truth.append(true)

    def merge(self, other: DetectionMetric) -> None:
        """Take in another one's images."""
        self._predicted += other._predicted
        self._truth += other._truth

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, AP_small, AP_medium, AP_large in [0, 1]; NaN where there is nothing to find."""
        values = [float(value) for value in self._evaluation().stats[: len(NAMES)]]
        return {k: float("nan") if v == NOT_DEFINED else v for k, v in zip(NAMES, values, strict=True)}

    def write_details(self, folder: Path) -> None:
        """What each class scores: `per_class.csv`; precision over recall: `precision_recall.png`."""
        evaluation = self._evaluation()
        precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (IoUs, recalls, classes), of all areas
        recall = evaluation.eval["recall"][:, :, 0, -1]  # (IoUs, classes)
        objects = Counter(class_id for truth in self._truth for class_id in truth.class_ids.tolist())
        rows = []
        for class_id, name in enumerate(self._class_names):
            row: dict[str, str | int | float] = {"class": name, "objects": objects[class_id]}
            scores = {
                "AP": precision[..., class_id].mean(),
                "AP50": precision[0, :, class_id].mean(),
                "AP75": precision[5, :, class_id].mean(),
                "recall_of_100": recall[:, class_id].mean(),
            }
            rows.append(row | {key: "" if value == NOT_DEFINED else float(value) for key, value in scores.items()})
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
                    "id": len(annotations) + 1,  # a match with id 0 would be taken for none
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
    """Predicted boxes as the content of a COCO results file; a box without a score has 1."""
    results = []
    for image_id, found in enumerate(predicted):
        scores = np.ones(len(found)) if found.scores is None else found.scores
        rows = zip(_to_xywh(found).tolist(), found.class_ids.tolist(), scores.tolist(), strict=True)
        results += [
            {"image_id": image_id, "category_id": class_id, "bbox": box, "score": score}
            for box, class_id, score in rows
        ]
    return results


def worst_false_positive(
    predicted: Detections, truth: Detections, class_names: Sequence[str]
) -> FailureCase[Detections] | None:
    """The box with the highest score that COCO's protocol counts as false at an IoU of one half, and why.

    Better boxes choose their object first. A false box is another class's, a second one for its object, not well
    placed, or around nothing.
    """
    placed = predicted.resized(truth.image_hw)
    if placed.scores is None:
        return None
    overlaps, is_crowd = np.zeros((len(placed), len(truth))), _is_crowd(truth)
    if overlaps.size:
        overlaps[:] = iou(_to_xywh(placed), _to_xywh(truth), is_crowd.astype(np.uint8))
    free = np.ones(len(truth), bool)
    for row in np.argsort(-placed.scores, kind="stable"):
        own_class = truth.class_ids == placed.class_ids[row]
        fits = overlaps[row] * (own_class & (free | is_crowd))
        if len(truth) and fits.max() >= MATCH_IOU:
            free[fits.argmax()] = False
            continue
        what = f"{class_names[placed.class_ids[row]]}: {_why_false(overlaps[row], own_class, truth, class_names)}"
        return FailureCase(float(placed.scores[row]), what, placed.select(np.array([row])))
    return None


def _why_false(
    overlaps: NDArray[np.float64], own_class: NDArray[np.bool_], truth: Detections, class_names: Sequence[str]
) -> str:
    own, other = (float((overlaps * which).max(initial=0)) for which in (own_class, ~own_class))
    if own >= MATCH_IOU:
        return "a second box"
    if other >= MATCH_IOU:
        return f"is {class_names[truth.class_ids[int((overlaps * ~own_class).argmax())]]}"
    return f"badly placed, IoU {own:.2f}" if own >= NEAR_IOU else "nothing annotated there"


def _is_crowd(truth: Detections) -> NDArray[np.bool_]:
    return np.zeros(len(truth), bool) if truth.is_crowd is None else truth.is_crowd


def _to_xywh(objects: Detections) -> NDArray[np.float64]:
    boxes = objects.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
