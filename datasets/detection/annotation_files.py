"""Data sets with an annotation file for each image that names its objects: what Pascal VOC and labelme share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.detection.annotated import AnnotatedImages, Categories, Objects, build_annotated
from datasets.detection.pairing import folders_of, pair, parent, stem
from datasets.detection.sizes import fill_sizes
from datasets.locate import locate, relative_name
from datasets.splits import SplitData
from datasets.stores import ImageFiles
from datasets.types import Split
from datasets.words import some


@dataclass
class Annotation:
    """An annotation file.

    Attributes:
        image_name: of the image by the file, relative to its folder; empty if the file has none.
        size_hw: of the image; 0 where the file has none.
        names: the category of each object.
        boxes_xyxy: of each object, in pixels.
        is_crowd: of each object.
        remarks: what was left out or repaired, each a phrase that completes "3 ...".
    """

    image_name: str
    size_hw: tuple[int, int]
    names: list[str] = field(default_factory=list)
    boxes_xyxy: list[tuple[float, float, float, float]] = field(default_factory=list)
    is_crowd: list[bool] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, box_xyxy: tuple[float, float, float, float], *, is_crowd: bool = False) -> None:
        """Add an object."""
        self.names.append(name)
        self.boxes_xyxy.append(box_xyxy)
        self.is_crowd.append(is_crowd)


@dataclass
class _Part:
    """The annotations of a split, as flat arrays; class ids in the order of `names`, before all files are read."""

    files: list[str]
    image_names: list[str]
    sizes_hw: NDArray[np.int64]
    names: list[str]
    objects: Objects
    remarks: Counter[str]


class AnnotationFiles:
    """The annotation files of a data set; its categories are the sorted names of the objects in all of them."""

    def __init__(
        self,
        root: Path,
        files: Mapping[Split, Sequence[str]],
        images: Sequence[str],
        parse: Callable[[Path], Annotation | None],
        *,
        stem_first: bool,
        warnings: Sequence[str] = (),
    ) -> None:
        """A data set.

        Args:
            root: folder of the data.
            files: annotation files of each split, relative to root.
            images: image files, relative to root.
            parse: reads an annotation file; None if it is of another kind.
            stem_first: the image is the one that is called like the annotation file, and the one that is named in the
                file only where there is none; or the other way round.
            warnings: lines for the first split.
        """
        self._root, self._files, self._images = root, files, images
        self._parse, self._stem_first, self._warnings = parse, stem_first, warnings

    def splits(self, found: str) -> SplitData[AnnotatedImages]:
        """The splits; `found` is a line for the user."""
        return SplitData(self._root, found, {split: partial(self._read, split) for split in self._files})

    def _read(self, split: Split) -> AnnotatedImages:
        part = self._parts[split]
        located, lines = self._located[split]
        images = ImageFiles(self._root, located)
        sizes_hw, more = fill_sizes(images, part.sizes_hw, self._root)
        class_id_of = np.array([self._categories.names.index(name) for name in part.names], np.int64)
        objects = part.objects
        objects = Objects(
            objects.image_rows,
            class_id_of[objects.class_ids],
            objects.boxes_xyxy,
            objects.is_crowd,
            objects.areas_px,
        )
        lines = [*lines, *more, *(f"{self._root}: {split}: {n:,} {what}" for what, n in sorted(part.remarks.items()))]
        if split == next(iter(self._files)):
            lines += [*self._warnings, *self._unused_images()]
        starts = np.searchsorted(objects.image_rows, np.arange(len(part.files)))

        def describe(row: int) -> str:
            image_row = int(objects.image_rows[row])
            return f"object {row - starts[image_row] + 1} of {part.files[image_row]}"

        return build_annotated(self._root, images, sizes_hw, self._categories, objects, describe, lines)

    @cached_property
    def _parts(self) -> dict[Split, _Part]:
        return {split: self._parse_all(files) for split, files in self._files.items()}

    def _parse_all(self, files: Sequence[str]) -> _Part:
        part_files: list[str] = []
        image_names: list[str] = []
        sizes_hw: list[tuple[int, int]] = []
        class_id_of: dict[str, int] = {}
        rows: list[int] = []
        class_ids: list[int] = []
        boxes_xyxy: list[tuple[float, float, float, float]] = []
        is_crowd: list[bool] = []
        remarks: Counter[str] = Counter()
        for name in files:
            annotation = self._parse(self._root / name)
            if annotation is None:
                remarks["annotation files are of another kind: left out"] += 1
                continue
            rows += [len(part_files)] * len(annotation.names)
            class_ids += [class_id_of.setdefault(label, len(class_id_of)) for label in annotation.names]
            boxes_xyxy += annotation.boxes_xyxy
            is_crowd += annotation.is_crowd
            part_files.append(name)
            image_names.append(annotation.image_name)
            sizes_hw.append(annotation.size_hw)
            remarks += annotation.remarks
        objects = Objects(
            np.array(rows, np.int64),
            np.array(class_ids, np.int64),
            np.array(boxes_xyxy, np.float64).reshape(-1, 4),
            np.array(is_crowd, np.bool_),
            np.full(len(rows), np.nan),
        )
        sizes = np.array(sizes_hw, np.int64).reshape(-1, 2)
        return _Part(part_files, image_names, sizes, list(class_id_of), objects, remarks)

    @cached_property
    def _categories(self) -> Categories:
        names = sorted({name for part in self._parts.values() for name in part.names})
        return Categories(tuple(range(1, len(names) + 1)), tuple(names))

    @cached_property
    def _pairs(self) -> dict[str, str]:
        return pair([name for files in self._files.values() for name in files], self._images)

    @cached_property
    def _located(self) -> dict[Split, tuple[list[str], list[str]]]:
        """The image of each annotation file, relative to the root, and a warning if some were looked for."""
        return {split: self._locate(part) for split, part in self._parts.items()}

    def _locate(self, part: _Part) -> tuple[list[str], list[str]]:
        is_image = self._is_image
        named = [
            relative_name(name or stem(file) + ".jpg", "" if self._stem_first else parent(file))
            for file, name in zip(part.files, part.image_names, strict=True)
        ]
        by_name = [name if name in is_image else None for name in named]
        by_stem = [self._pairs.get(file) for file in part.files]
        if self._stem_first:
            chosen = [paired or name for paired, name in zip(by_stem, by_name, strict=True)]
        else:
            count = Counter(by_name)  # copies of a file name the same image, and may have one of their own
            chosen = [
                paired if paired and count[name] > 1 else name or paired
                for paired, name in zip(by_stem, by_name, strict=True)
            ]
        rows = [row for row, name in enumerate(chosen) if name is None]
        lines: list[str] = []
        if rows:
            folders = folders_of(self._images) if self._stem_first else ["."]
            found, lines = locate(self._root, folders, [named[row] for row in rows], self._root)
            for row, name in zip(rows, found, strict=True):
                chosen[row] = name
        names = [name for name in chosen if name is not None]
        if len(set(names)) < len(names):
            uses = Counter(names)
            several = sorted(name for name, count in uses.items() if count > 1)
            lines.append(f"{self._root}: {some(several, 'image')} with several annotation files")
        return names, lines

    @cached_property
    def _is_image(self) -> frozenset[str]:
        return frozenset(self._images)

    def _unused_images(self) -> Iterator[str]:
        """A warning if there are images without an annotation file."""
        used = {name for names, _ in self._located.values() for name in names}
        unused = [name for name in self._images if name not in used]
        if unused:
            yield f"{self._root}: {some(unused, 'image')} without an annotation file, left out"
