"""The postprocessing of an SSD as an ONNX graph: what `decode_ssd` does, for a file that needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.common.deploy.postprocessing import parse_graph
from tasks.detection.boxes import VARIANCES
from tasks.detection.config import Scores
from tasks.detection.postprocess import CANDIDATES_PER_DETECTION, PostprocessConfig

if TYPE_CHECKING:
    from onnx import GraphProto

# No loop asks for more candidates here if too few survive the suppression, as `postprocess` does: so more at once.
_CANDIDATES_PER_DETECTION = 2 * CANDIDATES_PER_DETECTION


def ssd_postprocessing(config: PostprocessConfig, *, num_anchors: int, num_classes: int, scores: Scores) -> GraphProto:
    """An SSD's raw outputs -> the boxes of each image, best first.

    Outputs, with M = `max_detections`; rows that are left over have a score of 0:
        boxes_xyxy: (N, M, 4), in pixels of the network's input.
        scores: (N, M).
        class_ids: (N, M), without background.

    Args:
        config: the thresholds.
        num_anchors: A.
        num_classes: K, without background.
        scores: of the network.
    """
    num_pairs = num_anchors * num_classes
    num_candidates = min(num_pairs, _CANDIDATES_PER_DETECTION * config.max_detections)
    probabilities = (
        "class_scores = Sigmoid (class_logits)"
        if scores == "sigmoid"
        else "all_scores = Softmax <axis = -1> (class_logits)\n class_scores = Slice (all_scores, one, end, last_axis)"
    )
    return parse_graph(
        f"""
        ssd (float[N, A, C] class_logits, float[N, A, 4] box_deltas, float[A, 4] anchors)
          => (float[N, M, 4] boxes_xyxy, float[N, M] scores, int64[N, M] class_ids)
        {{
          {probabilities}
          pair_scores = Reshape (class_scores, pairs_shape)
          top_scores, pairs = TopK (pair_scores, num_candidates)
          anchor_ids = Div (pairs, num_classes)
          top_class_ids = Mod (pairs, num_classes)

          anchor_index = Unsqueeze (anchor_ids, last_axis)
          deltas = GatherND <batch_dims = 1> (box_deltas, anchor_index)
          candidate_anchors = Gather (anchors, anchor_ids)
          centre_deltas, size_deltas = Split <axis = -1, num_outputs = 2> (deltas)
          anchor_centres, anchor_sizes = Split <axis = -1, num_outputs = 2> (candidate_anchors)
          scaled_shifts = Mul (centre_deltas, centre_variance)
          shifts = Mul (scaled_shifts, anchor_sizes)
          centres = Add (anchor_centres, shifts)
          scaled_sizes = Mul (size_deltas, size_variance)
          growth = Exp (scaled_sizes)
          sizes = Mul (growth, anchor_sizes)
          half_sizes = Mul (sizes, half)
          low = Sub (centres, half_sizes)
          high = Add (centres, half_sizes)
          corners = Concat <axis = -1> (low, high)
          boxes = Clip (corners, zero, whole)

          clipped_low, clipped_high = Split <axis = -1, num_outputs = 2> (boxes)
          has_sides = Less (clipped_low, clipped_high)
          side_flags = Cast <to = 1> (has_sides)
          area_flags = ReduceMin <keepdims = 0> (side_flags, last_axis)
          valid_scores = Mul (top_scores, area_flags)
          class_rows = Unsqueeze (top_class_ids, class_axis)
          is_class = Equal (class_rows, class_column)
          score_rows = Unsqueeze (valid_scores, class_axis)
          scores_by_class = Where (is_class, score_rows, zero)

          kept = NonMaxSuppression (boxes, scores_by_class, max_detections, nms_iou, score_threshold)
          kept_scores = GatherND (scores_by_class, kept)
          shape = Shape (scores_by_class)
          nothing = ConstantOfShape (shape)
          suppressed = ScatterND (nothing, kept, kept_scores)
          surviving_scores = ReduceMax <keepdims = 0> (suppressed, class_axis)
          scores, rows = TopK (surviving_scores, num_detections)
          row_index = Unsqueeze (rows, last_axis)
          best_boxes = GatherND <batch_dims = 1> (boxes, row_index)
          boxes_xyxy = Mul (best_boxes, input_size)
          class_ids = GatherND <batch_dims = 1> (top_class_ids, row_index)
        }}
        """,
        one=np.array([1]),
        end=np.array([num_classes + 1]),
        last_axis=np.array([2]),
        class_axis=np.array([1]),
        class_column=np.arange(num_classes)[:, None],
        pairs_shape=np.array([0, num_pairs]),
        num_candidates=np.array([num_candidates]),
        num_detections=np.array([min(num_candidates, config.max_detections)]),
        max_detections=config.max_detections,
        num_classes=num_classes,
        centre_variance=VARIANCES[0],
        size_variance=VARIANCES[1],
        half=0.5,
        zero=0.0,
        whole=1.0,
        input_size=float(config.input_size),
        nms_iou=config.nms_iou,
        # ONNX keeps what is above the threshold, and `postprocess` what is not below it.
        score_threshold=float(np.nextafter(np.float32(config.score_threshold), np.float32(-1))),
    )
