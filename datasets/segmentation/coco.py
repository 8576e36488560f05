"""COCO's JSON format with the outlines of objects: polygons, or run lengths where objects are crowds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from datasets.detection.coco import annotation_files, image_folders, only_one
from datasets.detection.coco_json import CocoJson, check_content, parse_json
from datasets.detection.sizes import fill_sizes
from datasets.images.read import UnreadableImageError
from datasets.locate import locate
from datasets.segmentation.masked import MaskedImages
from datasets.splits import SplitData
from datasets.stores import ImageFiles, Rows
from datasets.types import VOID, Split
from datasets.words import plural

BACKGROUND = "background"
EXPECTED = "a JSON file in COCO's format whose annotations have a 'segmentation', in annotations/ or beside the images"
MIN_COORDINATES = 6  # of a polygon
MAX_COORDINATE_PX = 1e6  # larger ones, also infinite ones, are no pixels, and would take gigabytes to paint


@dataclass(frozen=True, eq=False)
class Outlines:
    """The outlines of M objects, as flat arrays (not as millions of Python objects), so that loader processes share
    them.

    Attributes:
        coordinates: float32, x and y of all corners in pixels, one polygon after the other.
        polygon_ends: int64, of each polygon in the coordinates.
        object_ends: int64 (M,), of each object in the polygons.
        run_lengths: COCO's run lengths, by object; of those that have no polygons.
        class_ids: uint8 (M,), `VOID` for crowds.
        areas_px: float64 (M,), from which object covers which.
    """

    coordinates: NDArray[np.float32]
    polygon_ends: NDArray[np.int64]
    object_ends: NDArray[np.int64]
    run_lengths: Mapping[int, Any]
    class_ids: NDArray[np.uint8]
    areas_px: NDArray[np.float64]

    def paint(self, objects: NDArray[np.int64], image_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """The class ids (H, W) of an image with these objects, small ones over large ones, and all over crowds.

        Raises:
            ValueError: if run lengths are not those of a mask of that size.
        """
        class_ids = np.zeros(image_hw, np.uint8)
        order = np.lexsort([-self.areas_px[objects], self.class_ids[objects] != VOID])
        for number in objects[order].tolist():
            class_ids[self._pixels(number, image_hw)] = self.class_ids[number]
        return class_ids

    def _pixels(self, number: int, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
        if number in self.run_lengths:
            return self._decode(number, image_hw)
        first, last = (int(self.object_ends[row]) if row >= 0 else 0 for row in (number - 1, number))
        starts = [0 if row == 0 else int(self.polygon_ends[row - 1]) for row in range(first, last)]
        polygons = [
            self.coordinates[start:end].tolist()
            for start, end in zip(starts, self.polygon_ends[first:last].tolist(), strict=True)
        ]
        return coco_mask.decode(coco_mask.frPyObjects(polygons, *image_hw)).any(-1)  # type: ignore[no-any-return]

    def _decode(self, number: int, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
        encoded = self.run_lengths[number]
        try:
            if isinstance(encoded["counts"], list):
                encoded = coco_mask.frPyObjects(encoded, *image_hw)
            pixels: NDArray[np.bool_] = coco_mask.decode(encoded).astype(bool)
        except (ValueError, RuntimeError) as error:  # RuntimeError: for values of other types
            raise ValueError(f"annotation at position {number}: damaged run lengths; expected COCO's") from error
        if pixels.shape != image_hw:
            height, width = pixels.shape
            raise ValueError(
                f"annotation at position {number}: run lengths of {width} x {height} pixels; expected those of its "
                f"image, {image_hw[1]} x {image_hw[0]}"
            )
        return pixels


class ObjectMasks:
    """Masks that are painted from outlines: a `MaskStore`."""

    def __init__(
        self,
        file: Path,
        outlines: Outlines,
        objects: NDArray[np.int64],
        ends: NDArray[np.int64],
        sizes_hw: NDArray[np.int64],
    ) -> None:
        """Take the outlines of a file.

        Args:
            file: for messages.
            outlines: of all objects in it.
            objects: int64 (M,), sorted by image.
            ends: int64 (N, 2), first and end in `objects` of each image.
            sizes_hw: int64 (N, 2), of the images; 0 for those that cannot be read.
        """
        self._file, self._outlines, self._objects, self._ends, self._sizes_hw = file, outlines, objects, ends, sizes_hw

    def __len__(self) -> int:
        return len(self._ends)

    def id(self, row: int) -> str:
        """The annotation file."""
        return str(self._file)

    def read(self, row: int) -> NDArray[np.uint8]:
        """The class ids of an image.

        Raises:
            UnreadableImageError: if its size is not known, or the outline of an object is damaged.
        """
        height, width = self._sizes_hw[row].tolist()
        if not height:
            raise UnreadableImageError(f"{self._file}: the size of an image is in neither it nor the file of the image")
        first, end = self._ends[row]
        try:
            return self._outlines.paint(self._objects[first:end], (height, width))
        except ValueError as error:
            raise UnreadableImageError(f"{self._file}: {error}") from error

    def select(self, rows: Rows) -> ObjectMasks:
        """The masks of the images at `rows`."""
        return ObjectMasks(self._file, self._outlines, self._objects, self._ends[rows], self._sizes_hw[rows])

    def join(self, others: Sequence[ObjectMasks]) -> ObjectMasks:
        """Not for outlines of several files.

        Raises:
            ValueError: always, if there are several.
        """
        if others:
            raise ValueError(f"{self._file}: data.fold joins no COCO files; expected one file, or data.val_fraction")
        return self


def find_coco_masks(root: Path) -> SplitData[MaskedImages] | None:
    """The splits of a folder with COCO annotations; None if it has none."""
    files, _ = annotation_files(root, {})
    if not files:
        return None

    def read(split: Split) -> MaskedImages:
        return read_coco_masks(root, only_one(root, split, files[split]), split)

    names = ", ".join(str(file.relative_to(root)) for several in files.values() for file in several)
    return SplitData(root, f"COCO annotations ({names})", {split: partial(read, split) for split in files})


def read_coco_masks(root: Path, file: Path, split: Split = "train") -> MaskedImages:
    """Read the outlines of a file; what is in none is background, and crowds are void.

    Raises:
        ValueError: naming the file and the fault, see `parse_json` and `check_content`; or there is no outline.
    """
    parsed = parse_json(file)
    content = check_content(file, parsed)
    located, warnings = locate(root, image_folders(root, file, split), content.image_names, file)
    store = ImageFiles(root, located)
    sizes_hw, lines = fill_sizes(store, content.sizes_hw, file)
    outlines, is_drawn = _read_outlines(file, content, parsed["annotations"])
    num_without = int((~is_drawn).sum())
    if not is_drawn.any():
        raise ValueError(f"{file}: none of its annotations has an outline; expected {EXPECTED}")
    if num_without:
        lines.append(f"{file}: {plural(num_without, 'annotation')} without an outline, left out")
    objects = np.flatnonzero(is_drawn)
    objects = objects[np.argsort(content.image_rows[objects], kind="stable")]
    edges = np.searchsorted(content.image_rows[objects], np.arange(len(store) + 1))
    masks = ObjectMasks(file, outlines, objects, np.stack([edges[:-1], edges[1:]], 1), sizes_hw)
    class_names = (BACKGROUND, *content.categories.names)
    if len(class_names) > VOID:
        raise ValueError(f"{file}: {len(class_names)} classes; expected at most {VOID}, since a mask has 8 bits")
    return MaskedImages(store, masks, class_names, [*warnings, *lines]).probe()


def _read_outlines(
    file: Path, content: CocoJson, annotations: Sequence[Mapping[str, Any]]
) -> tuple[Outlines, NDArray[np.bool_]]:
    """The outlines, and which objects have one."""
    coordinates: list[float] = []
    polygon_ends, object_ends, run_lengths = [], [], {}
    is_drawn = np.zeros(len(annotations), np.bool_)
    for number, annotation in enumerate(annotations):
        outline = annotation.get("segmentation")
        if isinstance(outline, dict) and {"size", "counts"} <= outline.keys():
            run_lengths[number] = outline
            is_drawn[number] = True
        elif isinstance(outline, list):
            for polygon in outline:
                is_flat = isinstance(polygon, list) and all(map(_is_coordinate, polygon))
                if not is_flat or len(polygon) % 2:
                    raise ValueError(
                        f"{file}: {content.describe(number)}: its 'segmentation' is {str(polygon)[:40]}; expected "
                        "polygons [x0, y0, x1, y1, ...] in pixels"
                    )
                if len(polygon) >= MIN_COORDINATES:
                    coordinates += polygon
                    polygon_ends.append(len(coordinates))
                    is_drawn[number] = True
        object_ends.append(len(polygon_ends))
    boxes_px = content.boxes_xywh[:, 2:].prod(1)
    areas_px = np.where(np.isnan(content.areas_px), boxes_px, content.areas_px)
    class_ids = np.where(content.is_crowd, VOID, content.class_ids + 1).astype(np.uint8)
    outlines = Outlines(
        np.array(coordinates, np.float32),
        np.array(polygon_ends, np.int64),
        np.array(object_ends, np.int64),
        run_lengths,
        class_ids,
        areas_px,
    )
    return outlines, is_drawn


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= MAX_COORDINATE_PX
