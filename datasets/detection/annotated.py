"""Images and boxes of one split, from any annotation format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from datasets.detection.pairing import name_in_split
from datasets.splits import Holdout, validation_rows
from datasets.stores import ImageStore, Rows, StoredExamples, join_images
from datasets.types import Detections, Example
from datasets.words import some

ROUNDING_PX = 1  # boxes that reach outside their image by no more were rounded
# Roboflow's exports have several augmented copies of a photo, named <photo>.rf.<32 hexadecimal digits>.jpg.
_COPY = re.compile(r"\.rf\.[0-9a-f]{32}(?=\.)")


@dataclass(frozen=True)
class Categories:
    """The categories of a data set: contiguous class id <-> category id and name.

    Attributes:
        ids: ascending; class id k is `ids[k]`. COCO's run from 1 to 90 with gaps.
        names: of each category.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Objects:
    """The M objects of a split, as flat arrays (not as a million Python objects), so that loader processes share them.

    Attributes:
        image_rows: int64 (M,), the image of each.
        class_ids: int64 (M,).
        boxes_xyxy: float64 (M, 4), in pixels of the image.
        is_crowd: bool (M,): neither trained on nor scored, such as COCO's crowds and VOC's difficult objects.
        areas_px: float64 (M,), for COCO's size classes; NaN for the area of the box.
    """

    image_rows: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    areas_px: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.image_rows)

    def select(self, rows: Rows) -> Objects:
        """The objects of these rows, in that order."""
        return Objects(*(values[rows] for values in vars(self).values()))


class AnnotatedImages(StoredExamples[Detections]):
    """Images and boxes of one split.

    Attributes:
        sizes_hw: int64 (N, 2), of the images by their annotations.
        categories: by class id.
        objects: sorted by image, with boxes inside it.
    """

    def __init__(
        self,
        images: ImageStore,
        sizes_hw: NDArray[np.int64],
        categories: Categories,
        objects: Objects,
        warnings: Sequence[str] = (),
    ) -> None:
        """Args: images: N; sizes_hw, categories: see above; objects: in any order; warnings: of the reader."""
        super().__init__(images, warnings)
        self.sizes_hw, self.categories = sizes_hw, categories
        self.objects = objects.select(np.argsort(objects.image_rows, kind="stable"))
        self._starts = np.searchsorted(self.objects.image_rows, np.arange(len(images) + 1))

    def __getitem__(self, index: int) -> Example[Detections]:
        """The image as stored and its boxes in the image's own pixels.

        Raises:
            UnreadableImageError: if the file cannot be read, or its size is not that of the annotations.
        """
        truth = self.truth(index)
        image = self.images.read(index, self.decoding, expected_hw=truth.image_hw)
        return Example(image, truth, self.id(index))

    def truth(self, index: int) -> Detections:
        """The annotations of one image, without opening it."""
        objects, rows = self.objects, slice(self._starts[index], self._starts[index + 1])
        boxes_xyxy = objects.boxes_xyxy[rows]
        box_areas_px = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1)
        areas_px = objects.areas_px[rows]
        height, width = self.sizes_hw[index].tolist()
        return Detections(
            boxes_xyxy.astype(np.float32),
            objects.class_ids[rows],
            (height, width),
            is_crowd=objects.is_crowd[rows],
            areas_px=np.where(np.isnan(areas_px), box_areas_px, areas_px).astype(np.float32),
        )

    def select(self, rows: Rows) -> Self:
        """The images of these rows, in that order."""
        image_rows = np.arange(len(self))[rows]
        counts = self._starts[image_rows + 1] - self._starts[image_rows]
        new_starts = np.cumsum(counts) - counts
        object_rows = np.repeat(self._starts[image_rows] - new_starts, counts) + np.arange(counts.sum())
        objects = replace(self.objects.select(object_rows), image_rows=np.repeat(np.arange(len(counts)), counts))
        return type(self)(
            self.images.select(image_rows), self.sizes_hw[image_rows], self.categories, objects, self.warnings
        )

    def with_categories(self, categories: Categories) -> Self:
        """The same images with class ids of other categories, which must have the names of all that have objects.

        Raises:
            ValueError: if one is missing.
        """
        if categories == self.categories:
            return self
        names = self.categories.names
        used = np.unique(self.objects.class_ids).tolist()
        unknown = [names[class_id] for class_id in used if names[class_id] not in categories.names]
        if unknown:
            raise ValueError(
                f"{self.images.root}: objects of {some(unknown, 'category')} that the training data or the model do "
                f"not have; they have {some(categories.names, 'category')}"
            )
        class_id_of = np.array([categories.names.index(name) if name in categories.names else -1 for name in names])
        objects = replace(self.objects, class_ids=class_id_of[self.objects.class_ids])
        return type(self)(self.images, self.sizes_hw, categories, objects, self.warnings)


def join(parts: Sequence[AnnotatedImages]) -> AnnotatedImages:
    """The images of several splits of a data set, with the categories of the first."""
    first = parts[0]
    parts = [part.with_categories(first.categories) for part in parts]
    offsets = np.cumsum([0, *map(len, parts)])
    shifted = [
        replace(part.objects, image_rows=part.objects.image_rows + offset)
        for part, offset in zip(parts, offsets, strict=False)
    ]
    objects = Objects(*(np.concatenate(arrays) for arrays in zip(*(vars(o).values() for o in shifted), strict=True)))
    images = join_images([part.images for part in parts])
    sizes_hw = np.concatenate([part.sizes_hw for part in parts])
    return AnnotatedImages(images, sizes_hw, first.categories, objects, [line for p in parts for line in p.warnings])


def held_out(source: AnnotatedImages, holdout: Holdout) -> NDArray[np.bool_]:
    """The mask of the images to hold out, by a hash of their names; augmented copies of a photo stay together.

    Raises:
        ValueError: if there is only one image, or all are copies of one.
    """
    groups = [name_in_split(_COPY.sub("", source.images.name(row))) for row in range(len(source))]
    if len(set(groups)) < 2:
        what = "1 image" if len(source) == 1 else f"{len(source)} copies of one image"
        raise ValueError(f"{source.images.root}: {what}; a validation part needs another (or data.val_fraction none)")
    return validation_rows(groups, holdout)


def build_annotated(
    origin: Path | str,
    images: ImageStore,
    sizes_hw: NDArray[np.int64],
    categories: Categories,
    objects: Objects,
    describe: Callable[[int], str],
    warnings: Sequence[str] = (),
) -> AnnotatedImages:
    """Check objects as an annotation file has them: boxes are clipped to their image, and empty ones dropped.

    Args:
        origin: the annotation file or folder, for messages.
        images: N.
        sizes_hw: (N, 2); 0 for images that cannot be read, whose objects are dropped.
        categories: by class id.
        objects: with the boxes as annotated.
        describe: where an object is in the annotations, by its row, such as `annotation 17`.
        warnings: of the reader.

    Raises:
        ValueError: naming origin and object, if a coordinate is not finite.
    """
    boxes_xyxy = objects.boxes_xyxy
    is_finite = np.isfinite(boxes_xyxy).all(1)
    if not is_finite.all():
        row = int(is_finite.argmin())
        raise ValueError(f"{origin}: {describe(row)}: the box {boxes_xyxy[row].tolist()} is not finite")
    is_sized = np.all(sizes_hw > 0, 1)
    sizes_hw = np.where(is_sized[:, None], sizes_hw, 1)
    is_lost = ~is_sized[objects.image_rows]
    max_xyxy = np.tile(sizes_hw[objects.image_rows][:, ::-1], 2)  # width, height, width, height
    clipped = np.clip(boxes_xyxy, 0, max_xyxy)
    is_outside = np.any(np.abs(clipped - boxes_xyxy) > ROUNDING_PX, 1)
    is_empty = np.any(clipped[:, 2:] <= clipped[:, :2], 1)
    lines = list(warnings)
    if same := sorted(name for name, count in Counter(categories.names).items() if count > 1):
        lines.append(f"{origin}: {some(same, 'name')} of several categories: each stays a class of its own")
    for is_affected, repair in (
        (is_outside & ~is_empty & ~is_lost, "boxes reach outside their image: clipped"),
        (is_empty & ~is_lost, "boxes are empty or wholly outside their image: dropped"),
        (is_lost, "boxes are of images that cannot be read: dropped"),
    ):
        if is_affected.any():
            first = describe(int(is_affected.argmax()))
            lines.append(f"{origin}: {int(is_affected.sum())} of {len(objects)} {repair} (the first is {first})")
    checked = replace(objects, boxes_xyxy=clipped).select(~is_empty & ~is_lost)
    return AnnotatedImages(images, sizes_hw, categories, checked, lines)
