"""What is in a JSON file of COCO's format: ids, sizes and boxes as people's converters write them, checked.

Format: https://cocodataset.org/#format-data (object detection).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.detection.annotated import Categories
from datasets.detection.sizes import as_size
from datasets.files import read_json, whole_characters
from datasets.memory import paused_gc

KEYS = ("images", "annotations", "categories")
MAX_NUMBER = 1e15  # larger coordinates and areas, also infinite ones, are no pixels
MISREAD_FRACTION = 0.5  # boxes that make no sense as annotated but do as something else, for an error


@dataclass(frozen=True, eq=False)
class CocoJson:
    """The content of a file: N images and M annotations.

    Attributes:
        image_names: N, as in the file.
        sizes_hw: int64 (N, 2), 0 where the file has none.
        categories: by class id.
        image_rows: int64 (M,).
        class_ids: int64 (M,).
        boxes_xywh: float64 (M, 4), in pixels.
        is_crowd: bool (M,).
        areas_px: float64 (M,), in square pixels; NaN where there are none.
        num_null_areas: annotations with an area of null.
        annotation_ids: M, for messages.
    """

    image_names: list[str]
    sizes_hw: NDArray[np.int64]
    categories: Categories
    image_rows: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    areas_px: NDArray[np.float64]
    num_null_areas: int
    annotation_ids: list[Any]

    def describe(self, row: int) -> str:
        """Where an object is in the file."""
        return f"annotation {self.annotation_ids[row]}"


def read_coco_json(file: Path) -> CocoJson:
    """Read a file; images are not opened.

    Raises:
        ValueError: naming the file and the fault, see `parse_json` and `check_content`.
    """
    return check_content(file, parse_json(file))


def check_content(file: Path, content: Mapping[str, Any]) -> CocoJson:
    """The checked content of a file.

    Args:
        file: for messages.
        content: from `parse_json`.

    Raises:
        ValueError: if an annotation has an unknown image or category, or no box, and for other faults of that kind.
    """
    categories, class_of = _read_categories(file, content["categories"])
    image_names, sizes_hw, row_of = _read_images(file, content["images"])
    annotations = content["annotations"]
    return CocoJson(
        image_names,
        sizes_hw,
        categories,
        _positions(file, annotations, "image_id", row_of, "images"),
        _positions(file, annotations, "category_id", class_of, "categories"),
        _read_boxes(file, annotations),
        _read_crowds(file, annotations),
        _read_areas(file, annotations),
        sum("area" in annotation and annotation["area"] is None for annotation in annotations),
        [annotation.get("id", row) for row, annotation in enumerate(annotations)],
    )


def check_meaning(file: Path | str, boxes_xywh: NDArray[np.float64], sizes_hw: NDArray[np.int64]) -> None:
    """Raise a ValueError if most boxes make sense only as corners, or as fractions of the image."""
    if not len(boxes_xywh):
        return
    max_xy = sizes_hw[:, ::-1] + 1.0
    ends = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    fits_as_corners = (boxes_xywh[:, 2:] > boxes_xywh[:, :2]).all(1) & (boxes_xywh[:, 2:] <= max_xy).all(1)
    only_as_corners = (ends > max_xy).any(1) & fits_as_corners
    is_fraction = (np.abs(boxes_xywh) <= 1).all(1) & (boxes_xywh[:, 2:] > 0).all(1) & (max_xy > 10).all(1)
    for is_other, looks_like in (
        (only_as_corners, "corners [x0, y0, x1, y1]: they reach outside their image otherwise"),
        (is_fraction, "fractions of the image: they are smaller than a pixel otherwise"),
    ):
        if is_other.mean() > MISREAD_FRACTION:
            raise ValueError(
                f"{file}: {int(is_other.sum())} of {len(boxes_xywh)} boxes look like {looks_like}; expected [x, y, "
                f"width, height] in pixels, the first is {boxes_xywh[int(is_other.argmax())].tolist()}"
            )


def parse_json(file: Path) -> dict[str, Any]:
    """The objects in a file: lists of images, annotations and categories.

    Raises:
        ValueError: if it is missing or not JSON, or a list is missing.
    """
    with paused_gc():
        content = read_json(file, "a COCO annotation file")
    for key in KEYS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{file}: not in COCO's format: expected an object with a list {key!r}")
        for row, value in enumerate(content[key]):
            if not isinstance(value, dict):
                raise ValueError(f"{file}: {key!r}: expected objects, got {str(value)[:50]!r} at position {row}")
    return content  # type: ignore[no-any-return]


def _as_id(value: Any) -> int | str | None:
    """An id as a number where it is one, also as text; None if it is no id."""
    if isinstance(value, str):
        return int(value) if value.strip().lstrip("-").isdecimal() else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_categories(file: Path, categories: list[dict[str, Any]]) -> tuple[Categories, dict[int | str, int]]:
    """The categories, and the class id of each id as it is in the file."""
    ids = [_as_id(category.get("id")) for category in categories]
    names = [category.get("name") for category in categories]
    for number, (category_id, name) in enumerate(zip(ids, names, strict=True)):
        if category_id is None or not isinstance(name, str | int) or name == "":
            raise ValueError(
                f"{file}: 'categories': expected an 'id' and a 'name' in each, got {categories[number]!r:.80}"
            )
    if not ids:
        raise ValueError(f"{file}: 'categories' is empty: expected at least one category")
    if len(set(ids)) < len(ids):
        raise ValueError(f"{file}: 'categories': expected distinct ids, got {len(ids)} with {len(set(ids))} ids")
    if all(isinstance(category_id, int) for category_id in ids):
        order = sorted(range(len(ids)), key=lambda row: ids[row])  # type: ignore[arg-type, return-value]
        official = tuple(int(ids[row]) for row in order)  # type: ignore[arg-type]
    else:  # hashes
        order = list(range(len(ids)))
        official = tuple(range(1, len(ids) + 1))
    class_of = {ids[row]: class_id for class_id, row in enumerate(order)}
    return Categories(official, tuple(whole_characters(str(names[row])) for row in order)), class_of  # type: ignore[return-value]


def _read_images(file: Path, images: list[dict[str, Any]]) -> tuple[list[str], NDArray[np.int64], dict[int | str, int]]:
    """File names, sizes (0 where there are none), and the row of each id."""
    if not images:
        raise ValueError(f"{file}: 'images' is empty: expected at least one image")
    names: list[str] = []
    sizes_hw = np.zeros((len(images), 2), np.int64)
    row_of: dict[int | str, int] = {}
    for row, image in enumerate(images):
        image_id, name = _as_id(image.get("id")), image.get("file_name")
        if image_id is None or not isinstance(name, str) or not name:
            lacking = "id" if image_id is None else "file_name"
            raise ValueError(
                f"{file}: 'images': expected 'id' and 'file_name' in each, but number {row + 1} has no "
                f"{lacking!r} to use: {image!r:.120}"
            )
        if image_id in row_of:
            raise ValueError(f"{file}: 'images': id {image_id!r} occurs more than once")
        row_of[image_id] = row
        names.append(name)
        sizes_hw[row] = [as_size(image.get(key)) for key in ("height", "width")]
    return names, sizes_hw, row_of


def _positions(
    file: Path, annotations: list[dict[str, Any]], key: str, position_of: Mapping[int | str, int], group: str
) -> NDArray[np.int64]:
    """The ids of all annotations as positions in a group of the JSON."""
    values = np.empty(len(annotations), np.int64)
    for row, annotation in enumerate(annotations):
        value = annotation.get(key)
        position = position_of.get(_as_id(value))  # type: ignore[arg-type]
        if position is None:
            raise ValueError(f"{file}: {_describe(annotations, row)}: {key} {value!r} is not in {group!r}")
        values[row] = position
    return values


def _read_boxes(file: Path, annotations: list[dict[str, Any]]) -> NDArray[np.float64]:
    """[x, y, width, height] in pixels; that of the polygons where an annotation has no box."""
    fault = partial(_fault, file, annotations, "bbox", "[x, y, width, height] in pixels")
    boxes = np.zeros((len(annotations), 4))
    for row, annotation in enumerate(annotations):
        box: Any = annotation.get("bbox") or _box_of_polygons(annotation.get("segmentation"))
        try:
            if isinstance(box, str):
                raise TypeError
            x, y, width, height = box  # NumPy would broadcast a single number to all four
            boxes[row] = float(x), float(y), float(width), float(height)
        except (TypeError, ValueError, OverflowError) as error:
            raise fault(row) from error
    is_huge = np.any(np.abs(boxes) > MAX_NUMBER, 1)
    if is_huge.any():
        raise fault(int(is_huge.argmax()))
    return boxes


def _box_of_polygons(polygons: Any) -> list[float] | None:
    """The box around polygons [x0, y0, x1, y1, ...]; None if there are none, as with run-length encoded masks."""
    try:
        points = np.concatenate([np.asarray(polygon, float).reshape(-1, 2) for polygon in polygons])
    except (TypeError, ValueError):
        return None
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return [x0, y0, x1 - x0, y1 - y0]


def _read_crowds(file: Path, annotations: list[dict[str, Any]]) -> NDArray[np.bool_]:
    flags = np.zeros(len(annotations), np.bool_)
    for row, annotation in enumerate(annotations):
        flag = annotation.get("iscrowd")
        if flag in (None, 0, "0", ""):
            continue
        if flag not in (1, "1"):
            raise _fault(file, annotations, "iscrowd", "0 or 1", row)
        flags[row] = True
    return flags


def _read_areas(file: Path, annotations: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Annotated areas in square pixels; NaN where there are none."""
    fault = partial(_fault, file, annotations, "area", "a number of square pixels")
    areas = np.full(len(annotations), math.nan)
    for row, annotation in enumerate(annotations):
        area = annotation.get("area")
        if area is None:
            continue
        try:
            areas[row] = float(area)
        except (TypeError, ValueError, OverflowError) as error:
            raise fault(row) from error
    is_huge = np.abs(areas) > MAX_NUMBER
    if is_huge.any():
        raise fault(int(is_huge.argmax()))
    return areas


def _fault(file: Path, annotations: Sequence[Mapping[str, Any]], key: str, expected: str, row: int) -> ValueError:
    """The error for a value that an annotation has or lacks."""
    value = annotations[row].get(key)
    return ValueError(f"{file}: {_describe(annotations, row)}: {key!r} must be {expected}, got {value!r:.100}")


def _describe(annotations: Sequence[Mapping[str, Any]], row: int) -> str:
    return f"annotation {annotations[row].get('id', row)}"
