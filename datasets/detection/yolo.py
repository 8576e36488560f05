"""YOLO: a text file of fractions for each image, in `labels/` or beside the images; splits by `data.yaml` or folders.

Format: https://docs.ultralytics.com/datasets/detect.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from datasets.detection.annotated import AnnotatedImages, Categories, Objects, build_annotated
from datasets.detection.pairing import by_split, count_splits, pair, parent, split_of
from datasets.detection.sizes import fill_sizes
from datasets.detection.sniff import sniffed
from datasets.detection.yolo_labels import Labels, has_label_line, read_labels
from datasets.detection.yolo_settings import YoloSettings, class_names_file, read_names, read_settings
from datasets.listing import list_files
from datasets.splits import SPLITS, SplitData
from datasets.stores import ImageFiles
from datasets.types import Split
from datasets.words import some

EXPECTED = "YOLO's text files (class x_centre y_centre width height, as fractions), beside the images or in labels/"
_LABEL_FOLDERS = {"label", "labels"}


def find_yolo(root: Path) -> SplitData[AnnotatedImages] | None:
    """The splits of a folder with YOLO's labels; None if it has none.

    Raises:
        ValueError: if the folder cannot be listed, or its data.yaml makes no sense.
    """
    listed = list_files(root)
    images, texts = listed.get(None, []), listed.get(".txt", [])
    label_of = pair(images, texts) if images and texts else {}
    if not _has_labels(root, list(label_of.values())):
        return None
    settings = read_settings(root, listed)
    lines = list(settings.warnings)
    parts = _split_images(root, settings, images, lines)
    names = settings.names
    origin = str(settings.file.relative_to(root)) if settings.file else "no data.yaml"
    if names is None and (file := class_names_file(root, listed)) is not None:
        names, origin = read_names(file), str(file.relative_to(root))
    used = set(label_of.values())
    folders = {parent(label) for label in used}
    unused = [text for text in texts if text not in used and parent(text) in folders]
    if lonely := [text for text in unused if _is_label(root, text)]:
        lines.append(f"{root}: {some(lonely, 'label file')} without an image, left out")
    data = _YoloData(root, parts, label_of, names, settings.num_keypoint_values, lines)
    readers = {split: partial(data.read, split) for split in parts}
    return SplitData(root, f"YOLO labels ({origin}): {count_splits(parts, 'images')}", readers)


class _YoloData:
    """The images and labels of a data set, read when a split is used."""

    def __init__(
        self,
        root: Path,
        parts: dict[Split, list[str]],
        label_of: dict[str, str],
        names: dict[int, str] | None,
        num_keypoint_values: int,
        warnings: Sequence[str],
    ) -> None:
        self._root, self._parts, self._label_of = root, parts, label_of
        self._names, self._num_keypoint_values, self._warnings = names, num_keypoint_values, warnings
        self._labels: dict[Split, list[Labels]] = {}

    def read(self, split: Split) -> AnnotatedImages:
        """The images of a split."""
        root, image_names = self._root, self._parts[split]
        categories = self._categories
        labels = self._read_labels(split)
        self._labels.pop(split)  # they are large, and read once
        counts = [len(each.class_ids) for each in labels]
        image_rows = np.repeat(np.arange(len(labels)), counts)
        images = ImageFiles(root, image_names)
        sizes_hw, _ = fill_sizes(images, np.zeros((len(images), 2), np.int64), root)  # YOLO's labels have none
        scales = np.tile(sizes_hw[image_rows][:, ::-1], 2)
        fractions = np.array([box for each in labels for box in each.boxes_xyxy], np.float64).reshape(-1, 4)
        class_ids = np.array([class_id for each in labels for class_id in each.class_ids], np.int64)
        objects = Objects(
            image_rows,
            np.searchsorted(np.array(categories.ids), class_ids),
            fractions * scales,
            np.zeros(len(image_rows), np.bool_),
            np.full(len(image_rows), np.nan),
        )
        lines_of_objects = [line for each in labels for line in each.lines]

        def describe(row: int) -> str:
            return f"{self._label_of[image_names[image_rows[row]]]}, line {lines_of_objects[row]}"

        warnings = self._remarks(split, labels)
        if split == next(iter(self._parts)):
            warnings += self._warnings
        return build_annotated(root, images, sizes_hw, categories, objects, describe, warnings)

    def _read_labels(self, split: Split) -> list[Labels]:
        if split not in self._labels:
            self._labels[split] = [
                read_labels(self._root / label, self._num_keypoint_values, self._names) if label else Labels()
                for label in map(self._label_of.get, self._parts[split])
            ]
        return self._labels[split]

    @cached_property
    def _categories(self) -> Categories:
        names = self._names
        if names is None:  # those of the whole data set
            found = [
                class_id for split in self._parts for each in self._read_labels(split) for class_id in each.class_ids
            ]
            names = {class_id: str(class_id) for class_id in range(max(found, default=0) + 1)}
        return Categories(tuple(sorted(names)), tuple(names[class_id] for class_id in sorted(names)))

    def _remarks(self, split: Split, labels: Sequence[Labels]) -> list[str]:
        num_unlabelled = sum(name not in self._label_of for name in self._parts[split])
        remarks = {
            "images have no label file: taken as images without objects": num_unlabelled,
            "lines occur twice in their label file: left out": sum(each.num_duplicates for each in labels),
            "objects are polygons, rotated boxes or poses: read as boxes": sum(each.num_shapes for each in labels),
        }
        return [f"{self._root}: {split}: {count:,} {what}" for what, count in remarks.items() if count]


def _split_images(
    root: Path, settings: YoloSettings, images: Sequence[str], lines: list[str]
) -> dict[Split, list[str]]:
    """The images of each split: those that the settings name, or those in folders named like it."""
    named = {split: names for split, names in settings.splits.items() if names}
    used = {name for names in named.values() for name in names}
    unused = [name for name in images if name not in used]
    if named:
        groups = {split: [name for name in unused if split_of(name) == split] for split in SPLITS if split not in named}
        parts = {**named, **{split: names for split, names in groups.items() if names}}
        used.update(name for names in groups.values() for name in names)
        rest = [name for name in unused if name not in used]
    else:
        parts, rest = by_split(unused)
    if rest:
        lines.append(f"{root}: {some(rest, 'image')} of no split, left out")
    return {split: parts[split] for split in SPLITS if split in parts}


def _has_labels(root: Path, labels: Sequence[str]) -> bool:
    """Whether files beside images, or in folders of labels, are YOLO's; a few are looked into, evenly spread."""
    if any(folder.lower() in _LABEL_FOLDERS for label in labels for folder in label.split("/")[:-1]):
        return True
    return any(has_label_line(root / label) for label in sniffed(labels))


def _is_label(root: Path, text: str) -> bool:
    return has_label_line(root / text) is not False  # lists, notes and class names are
