"""Open a folder of images with boxes: look which annotation format it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from datasets.detection import coco, labelme, voc, yolo
from datasets.detection.annotated import AnnotatedImages, Categories, held_out, join
from datasets.detection.category_ids import CATEGORY_IDS, read_category_ids
from datasets.detection.shards import open_detection_shards
from datasets.files import describe_folder
from datasets.shards.find import Shards, find_shards
from datasets.splits import Holdout, SplitData, hold_out
from datasets.types import Split
from datasets.words import join_words, some

Find = Callable[[Path], SplitData[AnnotatedImages] | None]
# Format -> how it is found in a folder, and what is expected there.
FORMATS: Mapping[str, tuple[Find, str]] = {
    "coco": (coco.find_coco, coco.EXPECTED),
    "yolo": (yolo.find_yolo, yolo.EXPECTED),
    "voc": (voc.find_voc, voc.EXPECTED),
    "labelme": (labelme.find_labelme, labelme.EXPECTED),
}


def open_detection(
    root: Path | Shards,
    *,
    format: str = "auto",
    images: Mapping[Split, str | None] | None = None,
    annotations: Mapping[Split, str | None] | None = None,
    holdout: Holdout | None = None,
) -> SplitData[AnnotatedImages]:
    """The splits of a folder, with a validation part held out where it has none.

    Args:
        root: the folder, or tar files.
        format: a key of FORMATS, shards, or auto to look for it.
        images: folders of COCO's images given by the user, by split, relative to root.
        annotations: COCO's files given by the user, by split, relative to root.
        holdout: which images to hold out for validation.

    Raises:
        ValueError: if the folder has no annotations in that format, or in any.
    """
    given = [f"data.{split}_images" for split, name in (images or {}).items() if name is not None]
    given += [f"data.{split}_annotations" for split, name in (annotations or {}).items() if name is not None]
    if not given and (shards := find_shards(root, format)) is not None:
        return open_detection_shards(shards, holdout)
    if isinstance(root, Shards):
        raise ValueError(f"{given[0]}: it is for COCO's format, and {root.root} are tar files; leave it out")
    if given:
        if format not in ("auto", "coco"):
            raise ValueError(f"{given[0]}: it is for COCO's format, and data.format is {format}; leave one of them out")
        format = "coco"
        data = coco.find_coco(root, images, annotations)
    else:
        data = _look_for(root) if format == "auto" else FORMATS[format][0](root)
    if data is None:
        names = list(FORMATS) if format == "auto" else [format]
        expected = "; or ".join(FORMATS[name][1] for name in names)
        raise ValueError(f"{root}: no boxes found; expected {expected}; {describe_folder(root)}")
    categories = read_category_ids(root)
    if categories is not None:
        readers = {split: partial(_renumbered, data, split, categories) for split in data.names}
        data = SplitData(data.root, data.found, readers)
    return hold_out(data, holdout, val_rows=held_out, join=join)


def find_format(root: Path) -> str | None:
    """The format of the annotations in a folder; None if it has none."""
    return next((name for name, (find, _) in FORMATS.items() if find(root) is not None), None)


def _look_for(root: Path) -> SplitData[AnnotatedImages] | None:
    """The data in the first of the formats that the folder has; `found` names the others."""
    data = None
    others = []
    for name, (find, _) in FORMATS.items():
        if data is None:
            data = find(root)
        else:
            with suppress(ValueError):  # what is wrong with files that are not used is no matter
                others += [name] if find(root) is not None else []
    if data is not None and others:
        data.found += f"; {join_words(others)} annotations are there too, and not used: data.format chooses"
    return data


def _renumbered(data: SplitData[AnnotatedImages], split: Split, categories: Categories) -> AnnotatedImages:
    """A split with the category ids that its format cannot hold."""
    source = data[split]
    missing = [name for name in source.categories.names if name not in categories.names]
    if missing:
        raise ValueError(
            f"{data.root}/{CATEGORY_IDS}: no id for {some(missing, 'category')}; add them, or remove the file to count "
            "from the first category"
        )
    return source.with_categories(categories)
