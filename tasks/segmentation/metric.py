"""Intersection over union, pixel accuracy and the F-score of boundaries, from sums over all images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.segmentation.masks import resize_mask
from datasets.types import VOID, Mask
from tasks.common.evaluation.report import PER_CLASS, write_csv
from tasks.common.inference_task import Metric

TOLERANCE = 0.0075  # of a boundary's place, as a fraction of the image's diagonal
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


class SegmentationMetric(Metric[Mask]):
    """Scores from a confusion matrix of pixels, at the size of the true masks; void pixels do not count.

        IoU_k = n_kk / (sum_j n_kj + sum_j n_jk - n_kk),   mIoU = mean of IoU_k over the classes in truth or predictions

    `boundary_f1` is the mean over classes of the F-score of their boundaries: a pixel of a boundary is right if one of
    the other mask's is within 0.0075 of the image's diagonal. Its precision and recall are of all images together.

    Source: Everingham et al. 2015 (doi:10.1007/s11263-014-0733-5), section 4.4, for the IoU; Csurka et al. 2013
    (BMVC, doi:10.5244/C.27.32), section 3, for boundaries, there with the mean of the F-scores of images.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Args: class_names: by class id."""
        self._class_names = class_names
        num_classes = len(class_names)
        self._confusion = np.zeros((num_classes, num_classes), np.int64)  # (true, predicted)
        # By class: predicted pixels of boundaries, those that are right, true ones, those that are found.
        self._boundaries = np.zeros((num_classes, 4), np.int64)

    def update(self, predicted: Sequence[Mask], truth: Sequence[Mask]) -> None:
        """Add a batch."""
        for prediction, target in zip(predicted, truth, strict=True):
            true_ids = target.class_ids
            ids = resize_mask(prediction, true_ids.shape).class_ids
            self._confusion += confusion_of(ids, true_ids, len(self._class_names))
            self._add_boundaries(np.where(true_ids == VOID, np.uint8(VOID), ids), true_ids)

    def merge(self, other: SegmentationMetric) -> None:
        """Add the counts of another metric."""
        self._confusion += other._confusion
        self._boundaries += other._boundaries

    def compute(self) -> dict[str, float]:
        """mIoU, pixel_accuracy, mean_accuracy and boundary_f1 in [0, 1]; NaN without pixels."""
        num_pixels, correct = self._confusion.sum(1), self._confusion.diagonal()
        present = num_pixels > 0
        if not present.any():
            return dict.fromkeys(("mIoU", "pixel_accuracy", "mean_accuracy", "boundary_f1"), float("nan"))
        f_scores = self._boundary_f_scores()
        return {
            "mIoU": float(np.nanmean(self._ious())),
            "pixel_accuracy": float(correct.sum() / num_pixels.sum()),
            "mean_accuracy": float((correct[present] / num_pixels[present]).mean()),
            "boundary_f1": float(np.nanmean(f_scores)) if np.isfinite(f_scores).any() else float("nan"),
        }

    def write_details(self, folder: Path) -> None:
        """Write `per_class.csv`, a row for each class with true or predicted pixels."""
        matrix, ious, f_scores = self._confusion, self._ious(), self._boundary_f_scores()
        rows = []
        for class_id in np.flatnonzero(np.isfinite(ious)).tolist():
            num_true, num_predicted, correct = (
                matrix[class_id].sum(),
                matrix[:, class_id].sum(),
                matrix[class_id, class_id],
            )
            errors = matrix[class_id] * (np.arange(len(matrix)) != class_id)
            rows.append(
                {
                    "class": self._class_names[class_id],
                    "pixels": int(num_true),
                    "predicted_pixels": int(num_predicted),
                    "IoU": float(ious[class_id]),
                    "accuracy": float(correct / num_true) if num_true else "",
                    "precision": float(correct / num_predicted) if num_predicted else "",
                    "boundary_f1": float(f_scores[class_id]) if np.isfinite(f_scores[class_id]) else "",
                    "most_confused_with": self._class_names[int(errors.argmax())] if errors.any() else "",
                }
            )
        write_csv(folder / PER_CLASS, rows)

    def _ious(self) -> NDArray[np.float64]:
        """By class; NaN where there are neither true nor predicted pixels."""
        correct = self._confusion.diagonal()
        return _ratio(correct, self._confusion.sum(0) + self._confusion.sum(1) - correct)

    def _boundary_f_scores(self) -> NDArray[np.float64]:
        """By class; NaN where there is no boundary at all."""
        num_predicted, num_right, num_true, num_found = self._boundaries.T
        precision, recall = _ratio(num_right, num_predicted), _ratio(num_found, num_true)
        f_scores = _ratio(2 * precision * recall, precision + recall)
        f_scores[(num_predicted + num_true > 0) & ~np.isfinite(f_scores)] = 0  # of one mask alone, or all wrong
        return f_scores

    def _add_boundaries(self, ids: NDArray[np.uint8], true_ids: NDArray[np.uint8]) -> None:
        radius = max(1, round(TOLERANCE * float(np.hypot(*true_ids.shape))))
        for class_id in np.union1d(ids, true_ids).tolist():
            if class_id == VOID:
                continue
            predicted, true = boundary(ids, class_id), boundary(true_ids, class_id)
            right, found = _distances(true)[predicted > 0] <= radius, _distances(predicted)[true > 0] <= radius
            self._boundaries[class_id] += [len(right), int(right.sum()), len(found), int(found.sum())]


def confusion_of(ids: NDArray[np.uint8], true_ids: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """The counts (true, predicted) of the pixels of a mask that are not void."""
    is_scored = true_ids != VOID
    pairs = num_classes * true_ids[is_scored].astype(np.int64) + ids[is_scored]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def boundary(class_ids: NDArray[np.uint8], class_id: int) -> NDArray[np.uint8]:
    """The pixels (0 or 1) of a class with a neighbour of another, which is neither void nor outside of the image."""
    is_class = class_ids == class_id
    inside = cv2.erode((is_class | (class_ids == VOID)).astype(np.uint8), _CROSS)  # ones are outside of the image
    found: NDArray[np.uint8] = (is_class & (inside == 0)).astype(np.uint8)
    return found


def _distances(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The distance of each pixel from the nearest one in a mask; far more than any in an image if there is none."""
    return cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # type: ignore[return-value]


def _ratio(
    part: NDArray[np.float64] | NDArray[np.int64], whole: NDArray[np.float64] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """The quotient, NaN where the whole is 0."""
    quotient = np.full(len(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient
