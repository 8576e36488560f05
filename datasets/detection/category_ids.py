"""`category_ids.json`: the category ids and the order of classes that YOLO and Pascal VOC cannot hold.

Without it a data set that was converted to YOLO and back would have the ids 1, 2, 3, ..., and Pascal VOC, which has no
list of classes, would lose their order and the classes without an object.
"""

from __future__ import annotations

import json
from pathlib import Path

from datasets.detection.annotated import Categories
from datasets.files import read_json

CATEGORY_IDS = "category_ids.json"


def write_category_ids(folder: Path, categories: Categories) -> None:
    """Write the id of each category name, unless two categories have one name."""
    id_of = dict(zip(categories.names, categories.ids, strict=True))
    if len(id_of) == len(categories.ids):
        (folder / CATEGORY_IDS).write_text(json.dumps(id_of, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_category_ids(root: Path) -> Categories | None:
    """The categories of a data set; None if it has no such file.

    Raises:
        ValueError: if it is not an object with a distinct whole number for each name.
    """
    file = root / CATEGORY_IDS
    if not file.is_file():
        return None
    expected = "an object with the id of each category name"
    content = read_json(file, expected)
    try:
        names_by_id = {int(category_id): str(name) for name, category_id in content.items()}
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{file}: expected {expected} ({error})") from error
    if len(names_by_id) < len(content) or not content:
        raise ValueError(f"{file}: expected a distinct id for each category name, got {len(names_by_id)} ids")
    ids = tuple(sorted(names_by_id))
    return Categories(ids, tuple(names_by_id[category_id] for category_id in ids))
