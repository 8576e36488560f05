"""Images with boxes in tar files: `key.jpg` beside `key.json` with COCO's annotations of the image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.detection.annotated import AnnotatedImages, Objects, build_annotated, held_out, join
from datasets.detection.coco_json import CocoJson, check_content, check_meaning
from datasets.detection.sizes import fill_sizes
from datasets.shards.find import CARD, Shards
from datasets.shards.records import TarTexts, open_shards, read_records
from datasets.splits import Holdout, SplitData, hold_out

EXPECTED = 'a JSON record with COCO\'s annotations, such as {"annotations": [{"bbox": [x, y, w, h], "category_id": 1}]}'


def open_detection_shards(shards: Shards, holdout: Holdout | None = None) -> SplitData[AnnotatedImages]:
    """The images of each split.

    `key.json` has `annotations` as in COCO's JSON (`bbox`, `category_id`, perhaps `iscrowd` and `area`), `width` and
    `height`. The card beside the tar files has COCO's `categories`; without it the ids are the names.

    Raises:
        ValueError: naming the tar file and the annotation that is faulty, see `check_content`.
    """
    categories = shards.card.get("categories")
    if categories is None:
        ids = set().union(*read_records(shards, "json", _category_ids).values)
        categories = [{"id": category_id, "name": str(category_id)} for category_id in sorted(ids, key=str)]
    if not isinstance(categories, list) or not all(isinstance(category, dict) for category in categories):
        raise ValueError(f"{shards.root}: {CARD}: expected a list of objects with id and name for categories")
    data = open_shards(shards, partial(_read, categories))
    return hold_out(data, holdout, val_rows=held_out, join=join)


def _read(categories: list[dict[str, Any]], shards: Shards) -> AnnotatedImages:
    records = read_records(shards, "json", partial(_content, categories))
    parts = [content for content in records.values if content is not None]  # None for a tar file without records
    starts = np.cumsum([0, *(len(part.image_names) for part in parts)])

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    sizes_hw, lines = fill_sizes(records.images, joined("sizes_hw"), shards.root)
    image_rows = np.concatenate([part.image_rows + start for part, start in zip(parts, starts, strict=False)])
    boxes_xywh = joined("boxes_xywh")
    check_meaning(shards.root, boxes_xywh, sizes_hw[image_rows])
    boxes_xyxy = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], 1)
    objects = Objects(image_rows, joined("class_ids"), boxes_xyxy, joined("is_crowd"), joined("areas_px"))
    warnings = records.warnings + lines
    return build_annotated(
        shards.root,
        records.images,
        sizes_hw,
        parts[0].categories,
        objects,
        lambda row: f"one of {records.images.name(int(image_rows[row]))}",
        warnings,
    )


def _content(categories: list[dict[str, Any]], texts: TarTexts) -> CocoJson | None:
    """The records of a tar file as the content of one file of COCO's."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row, record in enumerate(texts.json_objects(EXPECTED)):
        images.append(
            {"id": row, "file_name": texts.names[row]} | {key: record.get(key) for key in ("width", "height")}
        )
        annotations += [value | {"id": texts.names[row], "image_id": row} for value in _annotations(texts, row, record)]
    if not images:
        return None
    content = {"images": images, "annotations": annotations, "categories": categories}
    return check_content(Path(texts.names[0]).parent, content)


def _annotations(texts: TarTexts, row: int, record: dict[str, Any]) -> list[dict[str, Any]]:
    annotations = record.get("annotations")
    if not isinstance(annotations, list) or not all(isinstance(value, dict) for value in annotations):
        raise ValueError(f"{texts.names[row]}: expected {EXPECTED}, got the keys {', '.join(record)[:200]!r}")
    return annotations


def _category_ids(texts: TarTexts) -> set[Any]:
    """The ids of categories in a tar file; those that are none raise an error when it is read."""
    records = enumerate(texts.json_objects(EXPECTED))
    ids = {value.get("category_id") for row, record in records for value in _annotations(texts, row, record)}
    return {category_id for category_id in ids if isinstance(category_id, int | str)}
