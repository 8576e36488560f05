"""COCO's average precision, computed by pycocotools from our own types."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.types import Detections

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")  # the first of COCOeval's twelve
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
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
            truth = COCO()
            truth.dataset = self._truth_as_coco()
            truth.createIndex()
            predicted = self._predictions_as_coco()
            if not predicted:
                return dict.fromkeys(NAMES, 0.0 if truth.anns else float("nan"))
            evaluation = COCOeval(truth, truth.loadRes(predicted), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        values = [float(value) for value in evaluation.stats[: len(NAMES)]]
        return {k: float("nan") if v == NOT_DEFINED else v for k, v in zip(NAMES, values, strict=True)}

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


def _to_xywh(objects: Detections) -> np.ndarray:
    boxes = objects.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
