"""Boxes on the image: predictions in colour with name and score, truth as thin white lines."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from datasets.types import Detections, Image
from tasks.common.draw import colour, put_label

MIN_SIDE_PX = 320  # smaller images are enlarged, so that labels can be read


def draw_detections(image: Image, predicted: Detections, truth: Detections | None, class_names: Sequence[str]) -> Image:
    """A copy of the image with its objects; small images are enlarged.

    Args:
        image: (H, W, 3).
        predicted: drawn in its class's colour, in any frame.
        truth: drawn in white below the predictions, in any frame.
        class_names: in the order of class ids.
    """
    scale = max(1.0, MIN_SIDE_PX / min(image.shape[:2]))
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    canvas: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if truth is not None:
        for box in truth.resized((height, width)).boxes_xyxy.round().astype(int).tolist():
            cv2.rectangle(canvas, box[:2], box[2:], (0, 0, 0), 2)
            cv2.rectangle(canvas, box[:2], box[2:], (255, 255, 255), 1)
    placed = predicted.resized((height, width))
    boxes = placed.boxes_xyxy.round().astype(int).tolist()
    for row in reversed(range(len(placed))):  # the best on top
        class_id = int(placed.class_ids[row])
        cv2.rectangle(canvas, boxes[row][:2], boxes[row][2:], colour(class_id), 2)
    for row in reversed(range(len(placed))):
        class_id = int(placed.class_ids[row])
        score = "" if placed.scores is None else f" {placed.scores[row]:.2f}"
        put_label(canvas, f"{class_names[class_id]}{score}", boxes[row][0], boxes[row][1] - 14, colour(class_id))
    return canvas
