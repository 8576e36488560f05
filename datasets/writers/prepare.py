"""Images with boxes on their way to a writer: those that can be read, with file names and categories in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.detection.annotated import AnnotatedImages, Categories, Objects
from datasets.images.read import UnreadableImageError, image_headers
from datasets.types import Split
from datasets.writers.output import flat_names, renamed

AREA_ROUNDING, AREA_ROUNDING_PX = 0.001, 1
UPRIGHT = 1  # EXIF's orientation of pixels that are stored as they are shown


@dataclass(frozen=True, eq=False)
class Part:
    """The images of a split, to be written.

    Attributes:
        source: the images and boxes.
        names: of the files to write, without folders.
        orientations: int64 (N,), EXIF's orientation where the boxes are in the pixels as stored, else UPRIGHT.
    """

    source: AnnotatedImages
    names: list[str]
    orientations: NDArray[np.int64]

    def path(self, row: int) -> Path:
        """The image file."""
        return Path(self.source.id(row))

    def image_hw(self, row: int) -> tuple[int, int]:
        """Height and width of the frame that the boxes are in."""
        height, width = self.source.sizes_hw[row].tolist()
        return height, width

    def objects(self, row: int) -> Objects:
        """The objects of an image."""
        start, stop = np.searchsorted(self.source.objects.image_rows, (row, row + 1))
        return self.source.objects.select(np.arange(start, stop))

    def upright(self, row: int) -> tuple[NDArray[np.float64], tuple[int, int]]:
        """The boxes in the image as it is shown, with its EXIF orientation applied, and its height and width."""
        boxes_xyxy, (height, width) = self.objects(row).boxes_xyxy, self.image_hw(row)
        orientation = int(self.orientations[row])
        if orientation == UPRIGHT:
            return boxes_xyxy, (height, width)
        x0, y0, x1, y1 = boxes_xyxy.T
        if orientation in (7, 8):  # the left edge of the stored image is at the bottom
            x0, x1 = width - x1, width - x0
        if orientation in (6, 7):  # the top edge of the stored image is on the right
            y0, y1 = height - y1, height - y0
        return np.stack([y0, x0, y1, x1], 1), (width, height)


def num_own_areas(objects: Objects) -> int:
    """The number of objects whose annotated area is not that of their box."""
    box_areas_px = np.prod(objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2], 1)
    is_other = np.abs(objects.areas_px - box_areas_px) > AREA_ROUNDING_PX + AREA_ROUNDING * box_areas_px
    return int(is_other.sum())  # none for NaN


def prepare(
    sources: Mapping[Split, AnnotatedImages], *, names_across_splits: bool, advance: Callable[[], None]
) -> tuple[dict[Split, Part], list[str]]:
    """The parts to write, and a line for what is left out or renamed.

    Args:
        sources: by split.
        names_across_splits: file names are distinct among all splits, not only in each.
        advance: called for each image.

    Raises:
        ValueError: if no image can be read.
    """
    categories = join_categories([source.categories for source in sources.values()])
    lines: list[str] = []
    kept: dict[Split, tuple[AnnotatedImages, NDArray[np.int64]]] = {}
    for split, source in sources.items():
        is_readable, orientations, faults = _look_at_files(source, advance)
        if faults:
            lines.append(f"{len(faults)} of {len(source)} images for {split} are left out; the first, {faults[0]}")
        if not is_readable.any():
            raise ValueError(f"none of the {len(source)} images for {split} can be read; the first, {faults[0]}")
        kept[split] = source.with_categories(categories).select(is_readable), orientations[is_readable]
    names_of = {split: [source.images.name(row) for row in range(len(source))] for split, (source, _) in kept.items()}
    flat = flat_names([name for names in names_of.values() for name in names]) if names_across_splits else []
    parts: dict[Split, Part] = {}
    for split, (source, orientations) in kept.items():
        names = flat[: len(source)] if names_across_splits else flat_names(names_of[split])
        del flat[: len(source)]
        lines += renamed(names_of[split], names)
        parts[split] = Part(source, names, orientations)
    return parts, lines


def join_categories(several: Sequence[Categories]) -> Categories:
    """The categories of several splits; one that the first split lacks keeps its id where that is free."""
    first = several[0]
    if all(categories == first for categories in several):
        return first
    name_of = dict(zip(first.ids, first.names, strict=True))
    for categories in several[1:]:
        for category_id, name in zip(categories.ids, categories.names, strict=True):
            if name not in name_of.values():
                name_of[category_id if category_id not in name_of else max(name_of) + 1] = name
    ids = tuple(sorted(name_of))
    return Categories(ids, tuple(name_of[category_id] for category_id in ids))


def _look_at_files(
    source: AnnotatedImages, advance: Callable[[], None]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[str]]:
    """Which images can be read in the size of their annotations, the orientations of `Part`, and why the others cannot.

    Only the headers are read.
    """
    is_readable = np.ones(len(source), np.bool_)
    orientations = np.full(len(source), UPRIGHT)
    faults: list[str] = []
    for row, header in enumerate(image_headers(range(len(source)), source.images.header)):
        advance()
        height, width = source.sizes_hw[row].tolist()
        if isinstance(header, UnreadableImageError):
            faults.append(str(header))
        elif (header.height, header.width) == (height, width):
            continue
        elif (header.width, header.height) == (height, width) and header.orientation != UPRIGHT:
            orientations[row] = header.orientation
            continue
        else:
            found = f"{header.width} x {header.height} pixels"
            faults.append(f"{source.id(row)}: {found}, but its annotations are for {width} x {height}")
        is_readable[row] = False
    return is_readable, orientations, faults
