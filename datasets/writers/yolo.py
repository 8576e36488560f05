"""Write YOLO's layout: `images/train/`, `labels/train/` with a text file for each image, and `data.yaml`.

Format: https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from datasets.detection.category_ids import write_category_ids
from datasets.types import Split
from datasets.writers.output import OutputFolder
from datasets.writers.prepare import Part, num_own_areas

DECIMALS = 12  # so that boxes in single precision are the same to the bit when they are read again


def write_yolo(output: OutputFolder, parts: Mapping[Split, Part]) -> None:
    """Write images, labels and `data.yaml`; YOLO has neither crowds nor areas."""
    num_crowds = num_areas = 0
    for split, part in parts.items():
        for row, name in enumerate(part.names):
            objects, (boxes, (height, width)) = part.objects(row), part.upright(row)
            num_areas += num_own_areas(objects)
            num_crowds += int(objects.is_crowd.sum())
            centres_and_sizes = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
            fractions = centres_and_sizes / (width, height, width, height)
            columns = (objects.class_ids, fractions, objects.is_crowd)
            lines = [
                " ".join([str(class_id), *map(_number, values)])
                for class_id, values, is_crowd in zip(*(column.tolist() for column in columns), strict=True)
                if not is_crowd
            ]
            output.add_text(f"labels/{split}/{Path(name).stem}.txt", "".join(f"{line}\n" for line in lines))
            output.add_image(part.path(row), f"images/{split}/{name}")
    categories = next(iter(parts.values())).source.categories
    settings = {split: f"images/{split}" for split in parts} | {
        "nc": len(categories.names),
        "names": list(categories.names),
    }
    output.add_text("data.yaml", yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
    write_category_ids(output.path, categories)
    output.note_count(num_crowds, "crowd boxes are left out: YOLO has none, so that they count as background")
    output.note_count(num_areas, "areas are not those of their boxes: YOLO has none, so that the boxes' areas count")
    if "val" not in parts:
        output.notes.append("there is no val part: some YOLO programs need one, which --val_fraction holds out")


def _number(value: float) -> str:
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
