"""The regions of Faster R-CNN: the first stage's best boxes, in PyTorch and in an ONNX file, and what becomes of them.

There is a fixed number of them for each image.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, nms

from datasets.types import Detections
from tasks.detection.boxes import decode
from tasks.detection.matching import gather_rows
from tasks.detection.postprocess import PostprocessConfig, postprocess

CANDIDATES_PER_PROPOSAL = 4  # enough in nearly all images
MAX_DISTANCE = 1e-4  # between the corners of what is the same region, as a fraction of the image
_LOWEST = -3e38  # a score above it takes part


def best_regions(boxes_xyxy: Tensor, scores: Tensor, num_regions: int, iou: float) -> Tensor:
    """The boxes with the highest scores after non-maximum suppression within each group.

    Args:
        boxes_xyxy: (N, C, 4).
        scores: (N, G, C), of a box in each group, in descending order; minus infinity where it is not in the group.
        num_regions: R, per image.
        iou: IoU threshold.

    Returns:
        (N, R, 4), best first, padded with boxes without area.
    """
    kept = suppress(boxes_xyxy, scores, num_regions, iou)
    kept_scores, rows = scores.masked_fill(~kept, -torch.inf).amax(1).topk(min(num_regions, scores.shape[-1]))
    regions_xyxy = gather_rows(boxes_xyxy, rows) * (kept_scores > -torch.inf)[..., None]
    return functional.pad(regions_xyxy, (0, 0, 0, num_regions - rows.shape[1]))


def decode_scored_regions(
    class_scores: Tensor, regions_xyxy: Tensor, box_deltas: Tensor, config: PostprocessConfig
) -> list[Detections]:
    """Scored boxes of each image, best first.

    Args:
        class_scores: (N, R, K), probabilities of the classes without background.
        regions_xyxy: (N, R, 4), as fractions of the image.
        box_deltas: (N, R, K + 1, 4), offsets from the regions, per class, background first.
        config: the thresholds.
    """

    def decode_boxes(rows: Tensor, class_ids: Tensor) -> Tensor:
        class_deltas = box_deltas.flatten(0, 1)[rows, class_ids + 1]
        return decode(class_deltas, box_convert(regions_xyxy.flatten(0, 1)[rows], "xyxy", "cxcywh"))

    return postprocess(class_scores, decode_boxes, config)


@torch.library.custom_op("tasks_detection::suppress", mutates_args=())
def suppress(boxes_xyxy: Tensor, scores: Tensor, max_kept: int, iou: float) -> Tensor:
    """Non-maximum suppression: (N, G, C), whether a box is kept; an operator, so that it can be exported.

    Args:
        boxes_xyxy: (N, C, 4).
        scores: (N, G, C), see `best_regions`.
        max_kept: per group.
        iou: IoU threshold.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image, group in itertools.product(*map(range, scores.shape[:2])):
        group_scores = scores[image, group]
        candidates = (group_scores > -torch.inf).nonzero()[:, 0]
        # Only boxes with higher scores suppress a box, so the best candidates are usually enough.
        for count in (CANDIDATES_PER_PROPOSAL * max_kept, len(candidates)):
            tried = candidates[:count]
            rows = nms(boxes_xyxy[image, tried], group_scores[tried], iou)[:max_kept]
            if len(rows) == max_kept or count >= len(candidates):
                break
        kept[image, group, tried[rows]] = True
    return kept


@suppress.register_fake
def _(_boxes_xyxy: Tensor, scores: Tensor, _max_kept: int, _iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def suppress_in_onnx(boxes_xyxy: Any, scores: Any, max_kept: int, iou: float) -> Any:
    """`suppress` by ONNX's operators, for `torch.onnx.export`."""
    from onnxscript import opset20  # slow to import

    op: Any = opset20  # its annotations do not know that numbers become constants
    kept = op.NonMaxSuppression(boxes_xyxy, scores, max_kept, iou, _LOWEST)
    shape = op.Shape(scores)
    kept_flags = op.Expand(op.Constant(value_float=1.0), op.Shape(kept, start=0, end=1))
    flags = op.ScatterND(op.ConstantOfShape(shape), kept, kept_flags)
    return op.Cast(flags, to=9)  # bool


ONNX_OPERATORS = {torch.ops.tasks_detection.suppress.default: suppress_in_onnx}
