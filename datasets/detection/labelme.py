"""labelme: a JSON file for each image, with shapes.

The boxes are those of labelme's own converter to COCO, `examples/instance_segmentation/labelme2coco.py`
(https://github.com/wkentaro/labelme): shapes with the same label and `group_id` are one object, and both ends of a
mask's box are pixels inside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets.detection.annotated import AnnotatedImages
from datasets.detection.annotation_files import Annotation, AnnotationFiles
from datasets.detection.pairing import by_split, count_splits
from datasets.detection.sizes import as_size
from datasets.detection.sniff import has_pattern
from datasets.files import read_json, whole_characters
from datasets.listing import list_files
from datasets.splits import SplitData
from datasets.words import some

EXPECTED = "labelme's JSON files beside the images"
_SHAPES = re.compile(rb'"shapes"\s*:')
_SNIFFED_BYTES = 1 << 16
_CORNERS = ("rectangle", "polygon", "oriented_rectangle", "rotation", "mask")  # the box is that around the points


def find_labelme(root: Path) -> SplitData[AnnotatedImages] | None:
    """The splits of a folder with labelme's files; None if it has none.

    Raises:
        ValueError: if the folder cannot be listed.
    """
    listed = list_files(root)
    files = listed.get(".json", [])
    if not files or not has_pattern(root, files, _SHAPES, _SNIFFED_BYTES):
        return None
    parts, rest = by_split(files)
    lines = [f"{root}: {some(rest, 'JSON file')} of no split, left out"] if rest else []
    data = AnnotationFiles(root, parts, listed.get(None, []), read_annotation, stem_first=False, warnings=lines)
    return data.splits(f"labelme annotations: {count_splits(parts, 'files')}")


def read_annotation(file: Path) -> Annotation | None:
    """Read an annotation file; None if it is JSON of another kind. Points and lines have no box and are counted.

    Raises:
        ValueError: naming the file: it is not JSON, or a shape has no label or no points.
    """
    content = read_json(file, "an annotation file of labelme")
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        return None
    name = content.get("imagePath")
    size_hw = (as_size(content.get("imageHeight")), as_size(content.get("imageWidth")))
    annotation = Annotation(name if isinstance(name, str) else "", size_hw)
    object_of: dict[tuple[str, str], int] = {}
    for number, shape in enumerate(shapes, 1):
        where = f"{file}: shape {number}"
        if not isinstance(shape, dict):
            raise ValueError(f"{where}: expected an object with 'label' and 'points', got {shape!r:.60}")
        kind = shape.get("shape_type") or "polygon"
        if kind != "circle" and kind not in _CORNERS:
            annotation.remarks[f"shapes are of the kind {kind!r:.20}: left out"] += 1
            continue
        label = shape.get("label")
        if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
            raise ValueError(f"{where}: expected a 'label', got {label!r:.60}")
        label = whole_characters(str(label).strip())
        box_xyxy = _box(where, kind, shape.get("points"))
        group = shape.get("group_id")
        row = None if group is None else object_of.setdefault((label, repr(group)), len(annotation.names))
        if row is None or row == len(annotation.names):
            annotation.add(label, box_xyxy)
        else:
            before = annotation.boxes_xyxy[row]
            annotation.boxes_xyxy[row] = _around([before[:2], before[2:], box_xyxy[:2], box_xyxy[2:]])
    return annotation


def _box(where: str, kind: str, points: Any) -> tuple[float, float, float, float]:
    try:
        xy = [(float(x), float(y)) for x, y in points]
    except (TypeError, ValueError, OverflowError):
        xy = []
    least = 3 if kind == "polygon" else 2
    if len(xy) < least or not all(math.isfinite(value) for point in xy for value in point):
        raise ValueError(f"{where}: a {kind} has {least} 'points' [x, y] or more, got {points!r:.80}")
    if kind == "circle":
        (x, y), rim = xy[:2]
        radius = math.dist((x, y), rim)
        return x - radius, y - radius, x + radius, y + radius
    x0, y0, x1, y1 = _around(xy)
    return (x0, y0, x1 + 1, y1 + 1) if kind == "mask" else (x0, y0, x1, y1)


def _around(points: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs), max(ys)
