"""COCO's average precision, computed by pycocotools from our own types."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import iou

from datasets.types import Detections
from tasks.common.report import PER_CLASS, write_csv

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")  # the first of COCOeval's twelve
MATCH_IOU = 0.5
NOT_DEFINED = -1.0  # what COCOeval says where there is no object to find


class DetectionMetric:
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

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, AP_small, AP_medium, AP_large in [0, 1]; NaN where there is nothing to find."""
        evaluation = self._evaluation()
        if evaluation is None:
            return dict.fromkeys(NAMES, 0.0 if any(map(len, self._truth)) else float("nan"))
        values = [float(value) for value in evaluation.stats[: len(NAMES)]]
        return {k: float("nan") if v == NOT_DEFINED else v for k, v in zip(NAMES, values, strict=True)}

    def write_details(self, folder: Path) -> None:
        """AP and AP50 of each class, and how many objects of it there are: `per_class.csv`."""
        evaluation = self._evaluation()
        objects = Counter(class_id for truth in self._truth for class_id in truth.class_ids.tolist())
        rows = []
        for class_id, name in enumerate(self._class_names):
            row: dict[str, str | int] = {"class": name, "objects": objects[class_id], "AP": "", "AP50": ""}
            if evaluation is not None and objects[class_id]:
                precision = evaluation.eval["precision"][:, :, class_id, 0, -1]  # IoUs, recalls; all areas
                row |= {"AP": f"{precision.mean():.4f}", "AP50": f"{precision[0].mean():.4f}"}
            rows.append(row)
        write_csv(folder / PER_CLASS, rows)

    def _evaluation(self) -> COCOeval | None:
        """Pycocotools' finished evaluation; None where nothing was predicted, which it does not accept."""
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
            truth = COCO()
            truth.dataset = self._truth_as_coco()
            truth.createIndex()
            predicted = self._predictions_as_coco()
            if not predicted:
                return None
            evaluation = COCOeval(truth, truth.loadRes(predicted), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def _truth_as_coco(self) -> dict[str, Any]:
        annotations: list[dict[str, Any]] = []
        for image_id, truth in enumerate(self._truth):
            boxes_xywh = _to_xywh(truth)
            areas = boxes_xywh[:, 2] * boxes_xywh[:, 3] if truth.areas_px is None else truth.areas_px
            is_crowd = np.zeros(len(truth), bool) if truth.is_crowd is None else truth.is_crowd
            for box, class_id, area, crowd in zip(boxes_xywh, truth.class_ids, areas, is_crowd, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # COCOeval takes a match with id 0 for none
                        "image_id": image_id,
                        "category_id": int(class_id),
                        "bbox": box.tolist(),
                        "area": float(area),
                        "iscrowd": int(crowd),
                    }
                )
        return {
            "info": {},
            "images": [{"id": image_id} for image_id in range(len(self._truth))],
            "annotations": annotations,
            "categories": [{"id": class_id, "name": name} for class_id, name in enumerate(self._class_names)],
        }

    def _predictions_as_coco(self) -> list[dict[str, Any]]:
        results = []
        for image_id, predicted in enumerate(self._predicted):
            scores = np.ones(len(predicted)) if predicted.scores is None else predicted.scores
            for box, class_id, score in zip(_to_xywh(predicted), predicted.class_ids, scores, strict=True):
                results.append(
                    {"image_id": image_id, "category_id": int(class_id), "bbox": box.tolist(), "score": float(score)}
                )
        return results


def worst_false_positive(predicted: Detections, truth: Detections) -> float:
    """The highest score of a box that no object of its class overlaps by half; 0 where there is none."""
    placed = predicted.resized(truth.image_hw)
    if placed.scores is None or not len(placed):
        return 0.0
    is_false = np.ones(len(placed), bool)
    if len(truth):
        is_crowd = np.zeros(len(truth), bool) if truth.is_crowd is None else truth.is_crowd
        overlaps = iou(_to_xywh(placed), _to_xywh(truth), is_crowd.astype(np.uint8))
        same_class = placed.class_ids[:, None] == truth.class_ids
        is_false = ~((overlaps >= MATCH_IOU) & same_class).any(1)
    return float(placed.scores[is_false].max(initial=0.0))


def _to_xywh(objects: Detections) -> np.ndarray:
    boxes = objects.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
