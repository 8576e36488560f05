"""Open a folder of images with masks: look which format it has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from datasets.files import describe_folder
from datasets.segmentation.coco import EXPECTED as EXPECTED_COCO
from datasets.segmentation.coco import find_coco_masks
from datasets.segmentation.files import (
    CLASSES,
    EXPECTED,
    VOC_LISTS,
    VOC_MASKS,
    has_masks,
    has_voc_masks,
    open_mask_files,
    read_coding,
)
from datasets.segmentation.masked import MaskedImages, held_out, join_masked
from datasets.segmentation.shards import open_masked_shards
from datasets.shards.find import Shards, find_shards
from datasets.splits import Holdout, SplitData, hold_out

Format = Literal["auto", "folder", "voc", "instances", "coco", "shards"]
EXPECTED_VOC = f"Pascal VOC's JPEGImages/, {VOC_MASKS}/ and {VOC_LISTS}/"


def open_segmentation(
    root: Path | Shards, *, format: Format = "auto", holdout: Holdout | None = None
) -> SplitData[MaskedImages]:
    """The splits of a folder, with a validation part held out where it has none.

    Args:
        root: the folder, or tar files.
        format: auto to look for it. folder: images and masks of class ids, with a list of classes; voc: Pascal VOC's
            layout; instances: masks where each object of one class has a value of its own; coco: COCO's polygons;
            shards: tar files.
        holdout: which images to hold out for validation.

    Raises:
        ValueError: if the folder has no masks in that format, or in any.
    """
    if (shards := find_shards(root, format)) is not None:
        return open_masked_shards(shards, holdout)
    assert isinstance(root, Path)
    data = _open(root, _look_for(root) if format == "auto" else format)
    return hold_out(data, holdout, val_rows=held_out, join=join_masked)


def _open(root: Path, format: Format) -> SplitData[MaskedImages]:
    if format == "coco":
        data = find_coco_masks(root)
        if data is None:
            raise ValueError(f"{root}: no COCO annotations; expected {EXPECTED_COCO}; {describe_folder(root)}")
        return data
    coding = read_coding(root, is_voc=format == "voc", is_of_instances=format == "instances")
    if coding is None:
        raise ValueError(f"{root}: there is no {CLASSES}; expected {EXPECTED}; {describe_folder(root)}")
    return open_mask_files(root, coding)


def _look_for(root: Path) -> Format:
    if has_voc_masks(root):
        return "voc"
    if (root / CLASSES).is_file():
        return "folder"
    if find_coco_masks(root) is not None:
        return "coco"
    if has_masks(root):
        raise ValueError(
            f"{root}: there are masks, but no {CLASSES} with their class names; expected a name a line, the first for "
            "id 0; or --data.format instances, if the values of the masks number the objects of one class"
        )
    raise ValueError(
        f"{root}: no masks found; expected {EXPECTED}; or {EXPECTED_VOC}; or {EXPECTED_COCO}; {describe_folder(root)}"
    )
