"""Open a folder of data of any kind: look what it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from datasets.celeba import has_attributes, open_attributes
from datasets.classification.class_folders import open_labelled
from datasets.classification.stanford_dogs import TRAIN_LIST
from datasets.detection.read import FORMATS, open_detection
from datasets.faces import PAIRS, open_faces, read_lfw
from datasets.files import describe_folder
from datasets.folders import subfolders
from datasets.geolocation.csv_file import COLUMNS
from datasets.geolocation.exif import NoCoordinatesError, gps_coordinates
from datasets.geolocation.places import open_places
from datasets.listing import is_hidden, list_images
from datasets.segmentation.files import CLASSES, has_pairs, has_voc_masks
from datasets.segmentation.read import open_segmentation
from datasets.shards.find import Shards, find_shards
from datasets.shards.kind import find_kind
from datasets.splits import Holdout, SplitData, split_folders
from datasets.subsample import evenly_spread
from datasets.tables import SUFFIXES, open_table
from datasets.words import plural, some

Kind = Literal["detection", "classification", "segmentation", "attributes", "embedding", "geolocation"]
KINDS: tuple[Kind, ...] = ("detection", "classification", "segmentation", "attributes", "embedding", "geolocation")
# The formats that can be named instead of being looked for, by kind.
KIND_FORMATS: Mapping[Kind, tuple[str, ...]] = {
    "detection": (*FORMATS, "shards"),
    "classification": ("folder", "imagenet", "stanford_dogs", "shards"),
    "segmentation": ("folder", "voc", "instances", "coco", "shards"),
    "attributes": ("shards",),
    "embedding": ("folder", "lfw", "shards"),
    "geolocation": ("csv", "exif", "shards"),
}
NUM_PROBED = 50  # photos that are opened to look for EXIF data
# Folders of data of other kinds.
NOT_CLASSES = frozenset({"images", "imgs", "jpegimages", "pngimages", "masks", "labels", "annotations"})
MASKS = re.compile("mask|annot|segm", re.IGNORECASE)  # in the name of a folder of label images
EXPECTED = (
    "boxes (COCO, YOLO, Pascal VOC or labelme), images with masks and classes.txt, a folder of images for each class "
    "or person, CelebA's list of attributes, photos with coordinates (CSV, EXIF), or WebDataset's tar files of any of "
    "these"
)


def open_folder(
    root: Path | Shards,
    *,
    kind: Literal["auto", Kind] = "auto",
    format: str = "auto",
    csv: str | None = None,
    holdout: Holdout | None = None,
) -> tuple[Kind, SplitData[Any]]:
    """The kind of the data in a folder, and their splits.

    Class folders and folders of persons look the same; auto takes them for classes, unless LFW's `pairs.txt` is there.

    Args:
        root: the folder, or tar files.
        kind: of the data; auto to look for it.
        format: of that kind; auto to look for it.
        csv: the CSV file of places, relative to root; None to look for it.
        holdout: which images to hold out for validation where the data have no validation part.

    Raises:
        ValueError: if there are no data of that kind, or of any.
    """
    if isinstance(root, Path) and not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; expected the folder of a data set")
    if csv is None:
        root = find_shards(root, format) or root
    found = "geolocation" if csv else _find_kind(root, format) if kind == "auto" else kind
    if format != "auto" and format not in KIND_FORMATS[found]:
        raise ValueError(f"{found} data have no format {format!r}; expected {', '.join(KIND_FORMATS[found])}")
    if found == "geolocation":
        return found, open_places(root, format=format, csv=csv, holdout=holdout)  # type: ignore[arg-type]  # checked
    return found, _OPENERS[found](root, format, holdout)


def _find_kind(root: Path | Shards, format: str) -> Kind:
    """The kind that has the format, else the first whose files are there."""
    if isinstance(root, Shards):
        return find_kind(root, KINDS)  # type: ignore[return-value]  # one of them
    kinds = [kind for kind, formats in KIND_FORMATS.items() if format in formats]
    if kinds:
        return kinds[0]
    if format != "auto":
        known = ", ".join(dict.fromkeys(name for formats in KIND_FORMATS.values() for name in formats))
        raise ValueError(f"no format {format!r}; expected one of {known}")
    for kind, is_there in _SIGNS:
        if is_there(root):
            return kind
    masks = [name for name in subfolders(root) if MASKS.search(name) and list_images(root / name).names]
    if masks:
        raise ValueError(
            f"{root}: {some(masks, 'folder')} of masks, but no {CLASSES} with their class names; expected a name a "
            "line, the first for id 0; or --task segmentation --format instances, if the values of the masks number "
            "the objects of one class"
        )
    raise ValueError(f"{root}: no data found; expected {EXPECTED}; {describe_folder(root)}")


def _has_boxes(root: Path) -> bool:
    return any(find(root) is not None for find, _ in FORMATS.values())


def _has_classes_of_masks(root: Path) -> bool:
    return has_voc_masks(root) or ((root / CLASSES).is_file() and has_pairs(root))


def _has_pairs(root: Path) -> bool:
    return (root / PAIRS).is_file()


def _has_coordinates(root: Path) -> bool:
    """In a CSV file."""
    tables = [path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and not is_hidden(path.name)]
    return any(map(_is_table_of_places, tables))


def _is_table_of_places(path: Path) -> bool:
    try:
        table = open_table(path, lambda table: _num_coordinates(table))
    except ValueError:
        return False
    return _num_coordinates(table) == 2


def _num_coordinates(table: Any) -> int:
    return sum(table.column(COLUMNS[name]) is not None for name in ("lat", "lng"))


def _has_class_folders(root: Path) -> bool:
    if (root / TRAIN_LIST).is_file():
        return True
    splits = [root / name for names in split_folders(root).values() for name in names]
    folders = [parent / name for parent in splits or [root] for name in subfolders(parent)]
    if any(folder.name.lower() in NOT_CLASSES for folder in folders):
        return False
    return any(list_images(folder).names for folder in folders)


def _has_positions(root: Path) -> bool:
    """In the EXIF data of some of the photos."""
    names = list_images(root).names
    return any(map(_has_position, [root / names[row] for row in evenly_spread(len(names), NUM_PROBED)]))


def _has_position(path: Path) -> bool:
    try:
        gps_coordinates(path)
    except NoCoordinatesError:
        return False
    return True


# In this order, since the later ones also fit data of the earlier ones.
_SIGNS: tuple[tuple[Kind, Callable[[Path], bool]], ...] = (
    ("attributes", has_attributes),
    ("detection", _has_boxes),
    ("embedding", _has_pairs),
    ("geolocation", _has_coordinates),
    ("segmentation", _has_classes_of_masks),
    ("classification", _has_class_folders),
    ("geolocation", _has_positions),
)


def _open_embedding(root: Path | Shards, format: str, holdout: Holdout | None) -> SplitData[Any]:
    if isinstance(root, Path) and (format == "lfw" or (format == "auto" and _has_pairs(root))):
        photos, folds = read_lfw(root)
        count = f"{plural(sum(map(len, folds)), 'pair')} of {plural(len(photos), 'photo')} in {len(folds)} folds"
        found = f"LFW's layout: {count} of {PAIRS}, and no other photos"
        return SplitData(root, found, {"val": lambda: photos})
    return open_faces(root, holdout)


_OPENERS: Mapping[Kind, Callable[[Path | Shards, Any, Holdout | None], SplitData[Any]]] = {
    "detection": lambda root, format, holdout: open_detection(root, format=format, holdout=holdout),
    "classification": lambda root, format, holdout: open_labelled(root, format=format, holdout=holdout)[0],
    "segmentation": lambda root, format, holdout: open_segmentation(root, format=format, holdout=holdout),
    "attributes": lambda root, format, holdout: open_attributes(root, holdout),
    "embedding": _open_embedding,
}
