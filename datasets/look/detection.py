"""Look at boxes: whether there is something to learn and to score, and whether the boxes mean what they should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.detection.annotated import AnnotatedImages
from datasets.look.finding import Finding, Severity, ratio, selected
from datasets.types import Split
from datasets.words import first_of

TINY_PX = 2
HUGE_FRACTION = 0.95  # of the image's area
EXTREME_ASPECT = 20
MIN_EVIDENCE = 20  # boxes, for a guess at what they mean
EDGE_PX = 0.5
# From these fractions of the boxes on, a finding is made (or is a warning, not a note).
MANY_TINY, MANY_HUGE, MOST_HUGE, MOST_OF_ONE_SIZE, MANY_EXTREME, MANY_REPEATED = 0.05, 0.1, 0.5, 0.5, 0.01, 0.01
MANY_OUTSIDE, FEW = 0.1, 0.02
SMALLER_FRAME = 0.6  # of width and height, in which all boxes are if they are those of a smaller image
MAX_AREA_RATIO, MANY_AREAS = 1.5, 0.01  # annotated area / area of the box


class Boxes(NamedTuple):
    """The boxes of all splits.

    Attributes:
        xyxy: (M, 4), in pixels of the image.
        image_wh: (M, 2).
        class_ids: (M,), by the categories of each split.
        areas_px: (M,), annotated; NaN where there are none.
        image_rows: (M,), counted through all splits.
        ids: of the images, by such a row.
    """

    xyxy: NDArray[np.float64]
    image_wh: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    areas_px: NDArray[np.float64]
    image_rows: NDArray[np.int64]
    sources: tuple[AnnotatedImages, ...]

    @property
    def wh(self) -> NDArray[np.float64]:
        """Widths and heights, (M, 2)."""
        return self.xyxy[:, 2:] - self.xyxy[:, :2]

    def first(self, mask: NDArray[np.bool_]) -> str:
        """The image of the first box of a mask, in brackets."""
        row = int(self.image_rows[mask.argmax()])
        for source in self.sources:
            if row < len(source):
                return f"(the first in {source.id(row)})"
            row -= len(source)
        raise AssertionError


def look_at_boxes(sources: Mapping[Split, AnnotatedImages], *, input_size: int | None) -> list[Finding]:
    """What is to be said about the boxes of a data set.

    Args:
        sources: by split.
        input_size: side of the network's input, in which tiny boxes are measured; None for the image.
    """
    findings = [*_usable(sources), *_classes(sources), *_empty_images(sources)]
    boxes = _collect(sources)
    if len(boxes.xyxy):
        for rule in (_huge, _of_one_size, _repeated, _extreme, _misread, _areas):
            findings += rule(boxes)
        findings += _tiny(boxes, input_size)
    return findings


def _collect(sources: Mapping[Split, AnnotatedImages]) -> Boxes:
    parts = tuple(sources.values())
    offsets = np.cumsum([0, *map(len, parts)])[:-1]
    return Boxes(
        np.concatenate([part.objects.boxes_xyxy for part in parts]),
        np.concatenate([part.sizes_hw[part.objects.image_rows][:, ::-1] for part in parts]).astype(float),
        np.concatenate([part.objects.class_ids for part in parts]),
        np.concatenate([part.objects.areas_px for part in parts]),
        np.concatenate([part.objects.image_rows + offset for part, offset in zip(parts, offsets, strict=True)]),
        parts,
    )


def _usable(sources: Mapping[Split, AnnotatedImages]) -> Iterator[Finding]:
    for split, source in sources.items():
        num_crowds = int(source.objects.is_crowd.sum())
        if len(source.objects) > num_crowds:
            continue
        why = f"all {num_crowds:,} boxes are crowds or difficult" if num_crowds else "its images have no boxes"
        to_do = {
            "train": f"{why}, and nothing can be learned",
            "val": f"{why}, and nothing can be scored; mend the annotations, or take val out of the data, so that a "
            "part of train is held out",
            "test": f"{why}, and nothing can be scored",
        }
        severity: Severity = "warning" if split == "test" else "error"
        yield Finding(severity, f"{split}: {to_do[split]}")


def _classes(sources: Mapping[Split, AnnotatedImages]) -> Iterator[Finding]:
    used = {}
    for split, source in sources.items():
        names = source.categories.names
        class_ids = np.unique(source.objects.class_ids[~source.objects.is_crowd])
        used[split] = [names[class_id] for class_id in class_ids.tolist()]
    if not used.get("train"):
        return
    names = sources["train"].categories.names
    unlearned = [name for name in names if name not in set(used["train"])]
    if unlearned:
        scored = [name for name in unlearned if name in set(used.get("val", []))]
        also = f"; val has boxes of {len(scored)} of them, which no model will find" if scored else ""
        yield Finding(
            "warning",
            f"{ratio(len(unlearned), len(names), 'classes')} have no box in train: {first_of(unlearned)}{also}",
        )
    unscored = [name for name in used["train"] if name not in set(used.get("val") or used["train"])]
    if unscored:
        yield Finding(
            "note",
            f"{ratio(len(unscored), len(names), 'classes')} have no box in val, and no score: {first_of(unscored)}",
        )


def _empty_images(sources: Mapping[Split, AnnotatedImages]) -> Iterator[Finding]:
    num_empty = {split: len(source) - len(np.unique(source.objects.image_rows)) for split, source in sources.items()}
    parts = [
        f"{ratio(count, len(sources[split]), 'images')} of {split}"
        for split, count in num_empty.items()
        if 0 < count < len(sources[split])
    ]
    if parts:
        yield Finding("note", f"{' and '.join(parts)} have no box: they are background")


def _tiny(boxes: Boxes, input_size: int | None) -> Iterator[Finding]:
    scale = 1 if input_size is None else input_size / boxes.image_wh
    is_tiny = (boxes.wh * scale).min(1) < TINY_PX
    if is_tiny.any():
        where = "in their image" if input_size is None else f"at the network's input of {input_size} px"
        are_fractions = bool((boxes.xyxy[is_tiny] <= 1).all())
        guess = "; these look like fractions of the image" if are_fractions else ""
        severity: Severity = "warning" if is_tiny.mean() > MANY_TINY or are_fractions else "note"
        count = selected(is_tiny, "boxes")
        yield Finding(severity, f"{count} are under {TINY_PX} px wide or high {where}{guess} {boxes.first(is_tiny)}")


def _huge(boxes: Boxes) -> Iterator[Finding]:
    is_huge = boxes.wh.prod(1) > HUGE_FRACTION * boxes.image_wh.prod(1)
    if is_huge.mean() > MANY_HUGE:
        is_most = is_huge.mean() > MOST_HUGE
        guess = "; these look like labels of whole images, or boxes in pixels of a larger image" if is_most else ""
        yield Finding(
            "warning" if is_most else "note",
            f"{selected(is_huge, 'boxes')} cover more than {HUGE_FRACTION:.0%} of their image"
            f"{guess} {boxes.first(is_huge)}",
        )


def _of_one_size(boxes: Boxes) -> Iterator[Finding]:
    sizes, counts = np.unique(boxes.wh.round(1), axis=0, return_counts=True)
    most = int(counts.argmax())
    if len(boxes.wh) >= MIN_EVIDENCE and counts[most] > MOST_OF_ONE_SIZE * len(boxes.wh):
        width, height = sizes[most].tolist()
        yield Finding(
            "warning",
            f"{ratio(int(counts[most]), len(boxes.wh), 'boxes')} are {width:g} x {height:g} px; these look like points "
            "or a default size",
        )


def _repeated(boxes: Boxes) -> Iterator[Finding]:
    keys = np.column_stack([boxes.image_rows, boxes.class_ids, boxes.xyxy.round(1)])
    order = np.lexsort(keys.T[::-1])
    is_repeated = np.zeros(len(keys), np.bool_)
    is_repeated[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(1)
    if is_repeated.any():
        severity: Severity = "warning" if is_repeated.mean() > MANY_REPEATED else "note"
        count = selected(is_repeated, "boxes")
        yield Finding(severity, f"{count} repeat another of their image and class {boxes.first(is_repeated)}")


def _extreme(boxes: Boxes) -> Iterator[Finding]:
    sides = np.maximum(boxes.wh, 1e-9)
    is_extreme = sides.max(1) > EXTREME_ASPECT * sides.min(1)
    if is_extreme.mean() > MANY_EXTREME:
        count = selected(is_extreme, "boxes")
        yield Finding("note", f"{count} are more than {EXTREME_ASPECT} times as long as wide {boxes.first(is_extreme)}")


def _misread(boxes: Boxes) -> Iterator[Finding]:
    """What boxes in another convention look like once they are clipped to their images."""
    (x0, y0, x1, y1), (width, height), (image_w, image_h) = boxes.xyxy.T, boxes.wh.T, boxes.image_wh.T
    if len(boxes.xyxy) < MIN_EVIDENCE:
        return
    at_right, at_bottom = x1 > image_w - EDGE_PX, y1 > image_h - EDGE_PX
    at_far_edge, at_near_edge = (at_right | at_bottom).mean(), ((x0 < EDGE_PX) | (y0 < EDGE_PX)).mean()
    is_cut_at_far_edge = at_far_edge > MANY_OUTSIDE and at_near_edge < FEW
    # Corners taken for sizes: each box is larger than its distance from the top left corner.
    as_corners = ((width > x0) | at_right) & ((height > y0) | at_bottom)
    # Centres taken for corners: each box is at least half its size away from the top left corner.
    as_centres = (x0 >= width / 2 - 1) & (y0 >= height / 2 - 1)
    reach = f"{selected(at_right | at_bottom, 'boxes')} reach the right or lower edge of their image"
    if is_cut_at_far_edge and as_corners.mean() > 1 - FEW:
        yield Finding(
            "warning",
            f"{reach}, and all are larger than their distance from the upper left corner: these look like corners "
            "[x0, y0, x1, y1], read as [x, y, width, height]",
        )
    elif is_cut_at_far_edge and as_centres.mean() > 1 - FEW:
        yield Finding(
            "warning",
            f"{reach}, and hardly any the left or upper one: these look like centres, read as upper left corners",
        )
    elif max((x1 / image_w).max(), (y1 / image_h).max()) < SMALLER_FRAME:
        part = f"{(x1 / image_w).max():.0%} x {(y1 / image_h).max():.0%}"
        yield Finding(
            "warning",
            f"all {len(x0):,} boxes are in the upper left {part} of their images: these look like pixels of a smaller "
            "version of the images",
        )


def _areas(boxes: Boxes) -> Iterator[Finding]:
    """Areas decide which of COCO's sizes, small, medium or large, an object is scored in."""
    areas, box_areas = boxes.areas_px, boxes.wh.prod(1)
    has_none = np.isnan(areas)
    if has_none.any() and not has_none.all():  # most formats have no areas at all
        count = selected(has_none, "boxes")
        yield Finding("note", f"{count} have no area: that of the box is taken {boxes.first(has_none)}")
    is_void = areas <= 0
    if is_void.any():
        count = selected(is_void, "boxes")
        yield Finding("warning", f"{count} have an area of 0 or less in the annotations {boxes.first(is_void)}")
    is_too_large = areas > MAX_AREA_RATIO * box_areas + 4
    if is_too_large.mean() > MANY_AREAS:
        factor = float(np.median(areas[is_too_large] / box_areas[is_too_large]))
        count = selected(is_too_large, "boxes")
        yield Finding(
            "warning",
            f"{count} have an annotated area larger than their box, {factor:.3g} times in the middle: the areas look "
            f"like those of images of another size {boxes.first(is_too_large)}",
        )
