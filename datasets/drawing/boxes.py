"""Objects in their class's colour with name and score, true ones dashed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.drawing.draw import add_caption, colour, enlarge, label_size, put_label, text_px
from datasets.types import Detections, Image

# Line width of boxes, relative to the image's longer side; truth has half of it.
LINE_FRACTION, MIN_LINE_PX = 2 / 640, 2
DASH = 4  # length of a dash in line widths
SMALL_BOX = 6  # labels avoid boxes that are smaller than this many labels


def draw_detections(image: Image, predicted: Detections, truth: Detections | None, class_names: Sequence[str]) -> Image:
    """A copy of the image with its objects; small images are enlarged.

    Args:
        image: (H, W, 3).
        predicted: drawn in its class's colour, in any frame.
        truth: drawn dashed below the predictions, in any frame.
        class_names: in the order of class ids.
    """
    canvas = enlarge(image)
    frame_hw = canvas.shape[:2]
    line_px = max(MIN_LINE_PX, round(LINE_FRACTION * max(frame_hw)))
    if truth is not None:
        _put_dashed(canvas, _corners(truth.resized(frame_hw)), line_px // 2)
    if predicted.scores is not None:
        predicted = predicted.select(np.argsort(-predicted.scores, kind="stable"))
    boxes = _corners(predicted.resized(frame_hw))
    colours = [colour(class_id) for class_id in predicted.class_ids.tolist()]
    texts = [class_names[class_id] for class_id in predicted.class_ids.tolist()]
    if predicted.scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, predicted.scores, strict=True)]
    size_px = text_px(canvas)
    labels = _place_labels([label_size(text, size_px) for text in texts], boxes, frame_hw)
    best_last = range(len(predicted))[::-1]
    for row in best_last:
        cv2.rectangle(canvas, boxes[row, :2].tolist(), boxes[row, 2:].tolist(), colours[row], line_px)
    for row in best_last:
        left, top = labels[row].tolist()
        put_label(canvas, texts[row], left, top, colours[row], size_px)
    return add_caption(canvas, "dashed: truth") if truth is not None and len(truth) else canvas


def draw_faces(image: Image, boxes_xyxy: Sequence[tuple[float, ...]], labels: Sequence[str]) -> Image:
    """A copy of the image with a labelled box around each face, each in a colour of its own."""
    boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
    return draw_detections(image, Detections(boxes, np.arange(len(boxes)), image.shape[:2]), None, labels)


def _corners(objects: Detections) -> NDArray[np.int64]:
    """(M, 4) pixels."""
    return objects.boxes_xyxy.round().astype(np.int64)


def _put_dashed(canvas: Image, boxes: NDArray[np.int64], line_px: int) -> None:
    """Outlines in black and white, which show on any background."""
    outlines = np.zeros(canvas.shape[:2], np.uint8)
    for box in boxes.tolist():
        cv2.rectangle(outlines, box[:2], box[2:], 1, line_px)
    rows, columns = np.nonzero(outlines)
    canvas[rows, columns] = np.where((rows + columns) // (DASH * line_px) % 2, 255, 0)[:, None]


def _place_labels(
    sizes: Sequence[tuple[int, int]], boxes: NDArray[np.int64], frame_hw: tuple[int, int]
) -> NDArray[np.int64]:
    """(M, 2), left and top of each box's label: the first of ten positions at or inside the box with the least overlap.

    The overlap is that with earlier labels and with small boxes.
    """
    if not len(boxes):
        return np.zeros((0, 2), np.int64)
    (x0, y0, x1, y1), label_wh = boxes.T, np.array(sizes)
    left, above, right, below = x1 - label_wh[:, 0], y0 - label_wh[:, 1], x1, y1
    inside_bottom, outside_left = y1 - label_wh[:, 1], x0 - label_wh[:, 0]
    positions = np.array(
        [
            *((x0, above), (x0, y0), (left, above), (left, y0), (x0, inside_bottom), (left, inside_bottom)),
            *((x0, below), (left, below), (right, y0), (outside_left, y0)),
        ]
    ).transpose(2, 0, 1)
    positions = np.clip(positions, 0, np.maximum(0, np.array(frame_hw[::-1]) - label_wh)[:, None])
    candidates = np.concatenate([positions, positions + label_wh[:, None]], 2)
    is_small = (boxes[:, 2:] - boxes[:, :2]).prod(1) < SMALL_BOX * label_wh.prod(1).mean()
    overlaps = _overlap_areas(candidates, boxes[is_small])
    labels = np.zeros_like(boxes)
    for row in range(len(boxes)):
        overlaps[row] += _overlap_areas(candidates[row], labels[:row])
        labels[row] = candidates[row, overlaps[row].argmin()]
    return labels[:, :2]


def _overlap_areas(boxes: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """(...), the summed area in pixels of the intersections of each of (..., 4) boxes with (M, 4) others."""
    width, height = (
        np.minimum(boxes[..., axis + 2, None], others[:, axis + 2])
        - np.maximum(boxes[..., axis, None], others[:, axis])
        for axis in (0, 1)
    )
    areas: NDArray[np.int64] = (np.maximum(width, 0) * np.maximum(height, 0)).sum(-1)
    return areas
