"""The postprocessing of a detector as an ONNX graph: what `postprocess` does, for a file that needs no torch."""

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

_SOFTMAX = """
  all_scores = Softmax <axis = -1> (class_logits)
  class_scores = Slice (all_scores, one, end, last_axis)
"""
_OF_ANCHORS = """
  index = Unsqueeze (row_ids, last_axis)
  deltas = GatherND <batch_dims = 1> (box_deltas, index)
  candidate_anchors = Gather (anchors, row_ids)
  anchor_centres, anchor_sizes = Split <axis = -1, num_outputs = 2> (candidate_anchors)
"""
_OF_REGIONS = """
  index = Unsqueeze (row_ids, last_axis)
  output_ids = Add (top_class_ids, num_backgrounds)
  output_index = Unsqueeze (output_ids, last_axis)
  delta_index = Concat <axis = -1> (index, output_index)
  deltas = GatherND <batch_dims = 1> (box_deltas, delta_index)
  candidate_regions = GatherND <batch_dims = 1> (regions_xyxy, index)
  region_low, region_high = Split <axis = -1, num_outputs = 2> (candidate_regions)
  region_sums = Add (region_low, region_high)
  anchor_centres = Mul (region_sums, half)
  anchor_sizes = Sub (region_high, region_low)
"""


def ssd_postprocessing(config: PostprocessConfig, *, num_anchors: int, num_classes: int, scores: Scores) -> GraphProto:
    """An SSD's raw outputs -> the boxes of each image, see `_postprocessing`."""
    return _postprocessing(
        config,
        inputs="float[N, A, C] class_logits, float[N, A, 4] box_deltas, float[A, 4] anchors",
        class_scores="class_scores = Sigmoid (class_logits)" if scores == "sigmoid" else _SOFTMAX,
        candidates=_OF_ANCHORS,
        num_rows=num_anchors,
        num_classes=num_classes,
    )


def region_postprocessing(
    config: PostprocessConfig, *, num_regions: int, num_classes: int, has_logits: bool
) -> GraphProto:
    """The raw outputs of a Faster R-CNN -> the boxes of each image, see `_postprocessing`.

    Args:
        config: the thresholds.
        num_regions: R.
        num_classes: K, without background.
        has_logits: the network has `class_logits`, background first, and not `class_scores`.
    """
    classes = "float[N, R, C] class_logits" if has_logits else "float[N, R, K] class_scores"
    return _postprocessing(
        config,
        inputs=f"{classes}, float[N, R, C, 4] box_deltas, float[N, R, 4] regions_xyxy",
        class_scores=_SOFTMAX if has_logits else "",
        candidates=_OF_REGIONS,
        num_rows=num_regions,
        num_classes=num_classes,
    )


def _postprocessing(
    config: PostprocessConfig, *, inputs: str, class_scores: str, candidates: str, num_rows: int, num_classes: int
) -> GraphProto:
    """Raw outputs -> the boxes of each image, best first.

    Outputs, with M = `max_detections`; rows that are left over have a score of 0:
        boxes_xyxy: (N, M, 4), in pixels of the network's input.
        scores: (N, M).
        class_ids: (N, M), without background.

    Args:
        config: the thresholds.
        inputs: of the graph.
        class_scores: nodes from the inputs to `class_scores`, (N, rows, K).
        candidates: nodes from `row_ids` and `top_class_ids` to `deltas`, and `anchor_centres` and `anchor_sizes`, which
            they are offsets from.
        num_rows: anchors or regions.
        num_classes: K.
    """
    num_pairs = num_rows * num_classes
    num_candidates = min(num_pairs, _CANDIDATES_PER_DETECTION * config.max_detections)
    return parse_graph(
        f"""
        boxes ({inputs})
          => (float[N, M, 4] boxes_xyxy, float[N, M] scores, int64[N, M] class_ids)
        {{
          {class_scores}
          pair_scores = Reshape (class_scores, pairs_shape)
          top_scores, pairs = TopK (pair_scores, num_candidates)
          row_ids = Div (pairs, num_classes)
          top_class_ids = Mod (pairs, num_classes)

          {candidates}
          centre_deltas, size_deltas = Split <axis = -1, num_outputs = 2> (deltas)
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
        num_backgrounds=1,
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
