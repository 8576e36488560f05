"""Generated scenes with houses, trees, cars, boats and balloons, in COCO's official layout.

A small data set that trains within minutes on two cores, yet is not trivial: sizes differ fivefold, objects occlude one
another, and the background has their colours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.images.read import write_image
from datasets.sample.brush import Brush, cached
from datasets.types import Image

VERSION = 1  # increment whenever the images change
NUM_IMAGES = {"train2017": 800, "val2017": 160}
IMAGE_HW = (240, 320)
SEED = 1704
MIN_SIDE_PX = 24
MAX_SIDE_PX = 120
MIN_VISIBLE_FRACTION = 0.4  # of an object's pixels; objects with less are not annotated


def sample_root() -> Path:
    """The folder of the sample, generated in the cache on first use."""
    return cached(f"sample-detection-v{VERSION}", write_sample)


def write_sample(root: Path, num_images_of: Mapping[str, int] = NUM_IMAGES) -> None:
    """Write the images of each split, and their annotations, below a folder."""
    (root / "annotations").mkdir()
    for split_index, (split, num_images) in enumerate(num_images_of.items()):
        (root / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id in range(num_images):
            rng = np.random.default_rng([SEED, split_index, image_id])
            image, objects = draw_scene(rng)
            name = f"{image_id:012d}.jpg"
            write_image(root / split / name, image)
            images.append({"id": image_id, "file_name": name, "height": IMAGE_HW[0], "width": IMAGE_HW[1]})
            for category_id, box_xywh in objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category_id,
                        "bbox": box_xywh,
                        "area": box_xywh[2] * box_xywh[3],
                        "iscrowd": 0,
                        "segmentation": [],
                    }
                )
        content = {
            "info": {"description": "drawn scenes", "version": str(VERSION)},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i + 1, "name": name, "supercategory": "drawn"} for i, name in enumerate(PAINTERS)],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def draw_scene(rng: np.random.Generator) -> tuple[Image, list[tuple[int, list[int]]]]:
    """An image, and (category id, [x, y, width, height] in pixels) of each visible object."""
    image, object_map, painted = paint_scene(rng)
    objects = []
    for index, (class_id, num_painted) in enumerate(painted):
        rows, columns = np.nonzero(object_map == index)
        if num_painted and len(rows) >= max(60, MIN_VISIBLE_FRACTION * num_painted):
            left, top = int(columns.min()), int(rows.min())
            box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
            objects.append((class_id + 1, box))
    return image, objects


def paint_scene(rng: np.random.Generator) -> tuple[Image, NDArray[np.int64], list[tuple[int, int]]]:
    """An image, the number of the object that each pixel shows (-1: none), and of each object class id and pixels."""
    canvas = _background(rng)
    object_map = np.full(IMAGE_HW, -1)
    painted = []
    names = list(PAINTERS)
    for index in range(int(rng.integers(1, 7))):
        class_id = int(rng.integers(len(names)))
        side = MIN_SIDE_PX * (MAX_SIDE_PX / MIN_SIDE_PX) ** rng.random()
        left = rng.uniform(-0.2 * side, IMAGE_HW[1] - 0.8 * side)
        top = rng.uniform(-0.2 * side, IMAGE_HW[0] - 0.8 * side)
        mask = Brush(canvas, left, top, side, rng).paint(PAINTERS[names[class_id]])
        object_map[mask] = index
        painted.append((class_id, int(mask.sum())))
    noise = rng.normal(0, rng.uniform(2, 14), canvas.shape)
    return np.clip(canvas + noise, 0, 255).astype(np.uint8), object_map, painted


def _house(brush: Brush) -> None:
    eaves = brush.rng.uniform(0.35, 0.55)
    brush.rectangle(0.1, eaves, 0.9, 1, brush.colour((205, 180, 150), (190, 110, 90), (225, 225, 215)))
    brush.polygon([(0, eaves), (0.5, 0), (1, eaves)], brush.colour((150, 50, 40), (90, 80, 85), (110, 70, 45)))
    brush.rectangle(0.2, eaves + 0.1, 0.4, eaves + 0.28, brush.colour((120, 170, 210), (240, 225, 130)))
    brush.rectangle(0.58, 0.68, 0.78, 1, brush.colour((95, 60, 35), (60, 80, 120)))


def _tree(brush: Brush) -> None:
    green = brush.colour((45, 115, 45), (90, 140, 50), (160, 130, 40))
    brush.rectangle(0.43, 0.55, 0.57, 1, brush.colour((100, 70, 40)))
    if brush.rng.random() < 0.5:
        for y, half in ((0.0, 0.24), (0.2, 0.34), (0.4, 0.44)):
            brush.polygon([(0.5 - half, y + 0.38), (0.5, y), (0.5 + half, y + 0.38)], green)
    else:
        for x, y, radius in ((0.5, 0.26, 0.26), (0.3, 0.45, 0.24), (0.7, 0.45, 0.24)):
            brush.ellipse(x, y, radius, radius, green)


def _car(brush: Brush) -> None:
    body = brush.colour((200, 40, 40), (40, 80, 180), (230, 190, 50), (220, 220, 220), (60, 60, 65))
    brush.polygon([(0.22, 0.52), (0.34, 0.3), (0.68, 0.3), (0.8, 0.52)], body)
    brush.polygon([(0.3, 0.5), (0.38, 0.35), (0.64, 0.35), (0.72, 0.5)], brush.colour((170, 205, 225)))
    brush.rectangle(0, 0.5, 1, 0.7, body)
    for x in (0.22, 0.78):
        brush.ellipse(x, 0.7, 0.12, 0.12, (30, 30, 30))
        brush.ellipse(x, 0.7, 0.05, 0.05, (170, 170, 170))


def _boat(brush: Brush) -> None:
    brush.polygon([(0, 0.7), (1, 0.7), (0.82, 1), (0.18, 1)], brush.colour((130, 75, 40), (60, 70, 130), (180, 50, 45)))
    brush.rectangle(0.48, 0, 0.52, 0.7, brush.colour((90, 70, 55)))
    brush.polygon([(0.54, 0.04), (0.95, 0.62), (0.54, 0.62)], brush.colour((240, 238, 225), (215, 90, 70)))
    brush.polygon([(0.46, 0.14), (0.46, 0.62), (0.12, 0.62)], brush.colour((225, 225, 215)))


def _balloon(brush: Brush) -> None:
    brush.ellipse(0.5, 0.36, 0.36, 0.36, brush.colour((215, 60, 60), (240, 170, 40), (70, 120, 200), (130, 80, 160)))
    brush.ellipse(0.5, 0.36, 0.13, 0.36, brush.colour((245, 240, 220), (250, 210, 90)))
    brush.polygon([(0.28, 0.66), (0.72, 0.66), (0.58, 0.84), (0.42, 0.84)], brush.colour((150, 120, 90)))
    brush.rectangle(0.4, 0.84, 0.6, 1, brush.colour((125, 85, 45)))


PAINTERS: dict[str, Callable[[Brush], None]] = {
    "balloon": _balloon,
    "boat": _boat,
    "car": _car,
    "house": _house,
    "tree": _tree,
}


def _background(rng: np.random.Generator) -> Image:
    """Sky over land or water, with blobs as distractors."""
    height, width = IMAGE_HW
    horizon = int(rng.uniform(0.25, 0.75) * height)
    sky, low_sky = rng.uniform((90, 140, 190), (180, 210, 250)), rng.uniform(170, 250, 3)
    grounds = ((95, 140, 70), (180, 165, 110), (70, 120, 160), (120, 115, 110))
    ground = np.array(grounds[int(rng.integers(4))]) + rng.normal(0, 15, 3)
    shade = np.linspace(0, 1, height)[:, None]
    rows = np.where(np.arange(height)[:, None] < horizon, sky + shade * (low_sky - sky), ground * (0.8 + 0.4 * shade))
    canvas: Image = np.clip(np.repeat(rows[:, None], width, 1), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(6, 16))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        axes = (int(rng.integers(4, 36)), int(rng.integers(2, 14)))
        blob = np.clip(canvas[y, x].astype(float) + rng.normal(0, 45, 3), 0, 255).tolist()
        cv2.ellipse(canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, blob, cv2.FILLED, cv2.LINE_AA)
    return canvas
