"""Write Pascal VOC's layout: `JPEGImages/`, `Annotations/` with an XML file for each image, `ImageSets/Main/`.

Format: Everingham and Winn 2012, The PASCAL VOC2012 development kit, section 9 (annotations): boxes are whole pixels,
counted from 1, and their last row and column belong to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from datasets.detection.category_ids import write_category_ids
from datasets.types import Split
from datasets.writers.output import OutputFolder
from datasets.writers.prepare import Part, num_own_areas

MIN_SIDE_PX = 2
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe")
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write_voc(output: OutputFolder, parts: Mapping[Split, Part]) -> None:
    """Write images, annotations and lists; crowds are written as difficult, and VOC has no areas.

    Raises:
        ValueError: if XML cannot hold the name of a category.
    """
    categories = next(iter(parts.values())).source.categories
    for name in categories.names:
        if _NOT_IN_XML.search(name) or name != name.strip():
            raise ValueError(f"category {name!r}: XML cannot hold this name; rename it, or write COCO or YOLO")
    num_crowds = num_areas = num_rounded = num_others = 0
    for split, part in parts.items():
        stems = []
        for row, name in enumerate(part.names):
            stem, suffix = Path(name).stem, Path(name).suffix
            is_jpeg = suffix.lower() in JPEG_SUFFIXES
            num_others += not is_jpeg
            file_name = f"{stem}.jpg" if is_jpeg else name  # the kit's own programs look for .jpg
            objects, image_hw = part.objects(row), part.image_hw(row)
            boxes = whole_pixels(objects.boxes_xyxy, image_hw)
            num_crowds += int(objects.is_crowd.sum())
            num_areas += num_own_areas(objects)
            num_rounded += int((boxes != objects.boxes_xyxy).any(1).sum())
            columns = ([categories.names[class_id] for class_id in objects.class_ids], boxes.tolist(), objects.is_crowd)
            _write_xml(output.file(f"Annotations/{stem}.xml"), file_name, image_hw, zip(*columns, strict=True))
            output.add_image(part.path(row), f"JPEGImages/{file_name}")
            stems.append(f"{stem}\n")
        output.add_text(f"ImageSets/Main/{split}.txt", "".join(stems))
    write_category_ids(output.path, categories)
    output.note_count(num_rounded, "boxes are rounded: VOC's are whole pixels")
    output.note_count(num_crowds, "crowd boxes are marked difficult: VOC has no crowds")
    output.note_count(num_areas, "areas are not those of their boxes: VOC has none, so that the boxes' areas count")
    output.note_count(num_others, "images are no JPEG files: some VOC programs look for .jpg files only")


def whole_pixels(boxes_xyxy: NDArray[np.float64], image_hw: tuple[int, int]) -> NDArray[np.int64]:
    """The boxes (M, 4) rounded to edges of pixels, with two pixels or more on each side.

    A box of one pixel would have equal ends, xmin = xmax, which many programs take for an empty box.
    """
    ends_wh = np.array(image_hw[::-1])
    starts, ends = np.rint(boxes_xyxy[:, :2]), np.rint(boxes_xyxy[:, 2:])
    is_narrow = ends - starts < MIN_SIDE_PX
    middle_starts = np.rint((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 - MIN_SIDE_PX / 2)
    starts = np.where(is_narrow, np.clip(middle_starts, 0, np.maximum(ends_wh - MIN_SIDE_PX, 0)), starts)
    ends = np.where(is_narrow, np.minimum(starts + MIN_SIDE_PX, ends_wh), ends)
    return np.concatenate([starts, ends], 1).astype(np.int64)


def _write_xml(
    file: Path, image_name: str, image_hw: tuple[int, int], objects: Iterable[tuple[str, list[int], bool]]
) -> None:
    """Objects: name, box and whether it is a crowd."""
    root = ElementTree.Element("annotation")
    _add(root, {"folder": "JPEGImages", "filename": image_name})
    height, width = image_hw
    _add(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _add(root, {"segmented": 0})
    for name, (x0, y0, x1, y1), is_crowd in objects:
        element = ElementTree.SubElement(root, "object")
        _add(element, {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": int(is_crowd)})
        box = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}  # the first pixel is 1
        _add(ElementTree.SubElement(element, "bndbox"), box)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(file, encoding="utf-8")


def _add(parent: ElementTree.Element, values: Mapping[str, object]) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(parent, tag).text = str(value)
