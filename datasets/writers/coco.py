"""Write COCO's official layout: `train/`, `val/`, and `annotations/instances_train.json`, `instances_val.json`.

Format: https://cocodataset.org/#format-data (object detection).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.types import Split
from datasets.writers.output import OutputFolder
from datasets.writers.prepare import Part

DECIMALS = 8  # of a pixel, so that boxes in single precision are the same when they are read again


def write_coco(output: OutputFolder, parts: Mapping[Split, Part]) -> None:
    """Write images and annotations of each split. Boxes, crowds, areas and category ids are kept."""
    for split, part in parts.items():
        content: dict[str, Any] = {
            "info": {"description": "written by python -m datasets convert"},
            "images": [],
            "annotations": [],
            "categories": coco_categories(part),
        }
        image_ids = _image_ids(part.names)
        for row, name in enumerate(part.names):
            height, width = part.image_hw(row)
            content["images"].append({"id": image_ids[row], "file_name": name, "width": width, "height": height})
            for record in coco_records(part, row):
                ids = {"id": len(content["annotations"]) + 1, "image_id": image_ids[row]}
                content["annotations"].append(ids | record | {"segmentation": []})
            output.add_image(part.path(row), f"{split}/{name}")
        output.add_text(f"annotations/instances_{split}.json", json.dumps(content))


def coco_categories(part: Part) -> list[dict[str, Any]]:
    """The categories as COCO's records."""
    categories = part.source.categories
    return [
        {"id": category_id, "name": name, "supercategory": "none"}
        for category_id, name in zip(categories.ids, categories.names, strict=True)
    ]


def coco_records(part: Part, row: int) -> list[dict[str, Any]]:
    """The objects of an image as COCO's annotations, without their ids."""
    objects, category_ids = part.objects(row), part.source.categories.ids
    sizes = objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]
    areas_px = np.where(np.isnan(objects.areas_px), np.prod(sizes, 1), objects.areas_px)
    boxes_xywh = np.concatenate([objects.boxes_xyxy[:, :2], sizes], 1).round(DECIMALS)
    columns = (objects.class_ids, boxes_xywh, areas_px.round(DECIMALS), objects.is_crowd)
    return [
        {"category_id": category_ids[class_id], "bbox": box, "area": area, "iscrowd": int(is_crowd)}
        for class_id, box, area, is_crowd in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _image_ids(names: Sequence[str]) -> list[int]:
    """The numbers that the names are, as in COCO's own files (`000000000139.jpg` is 139), else counted from 1."""
    stems = [Path(name).stem for name in names]
    if all(stem.isascii() and stem.isdecimal() and len(stem) <= 15 for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(names) + 1))
