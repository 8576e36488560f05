"""Which annotation file belongs to which image, and to which split, where each image has a file of its own.

YOLO, Pascal VOC and labelme keep these files beside the images, or in a parallel folder: `train/labels/a.txt` for
`train/images/a.jpg`, `labels/train/a.txt` for `images/train/a.jpg`, `Annotations/a.xml` for `JPEGImages/a.jpg`.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from datasets.splits import SPLITS, split_named
from datasets.types import Split

K = TypeVar("K")
# Names of folders, in lower case, that tell images from annotations.
_IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages", "pictures", "photos"})
_ANNOTATION_FOLDERS = frozenset(
    {"labels", "label", "annotations", "annotation", "annots", "xmls", "xml", "json", "jsons"}
)
_KIND_FOLDERS = _IMAGE_FOLDERS | _ANNOTATION_FOLDERS


def pair(names: Sequence[str], partners: Sequence[str]) -> dict[str, str]:
    """The partner of each name that has one: an image of an annotation file, or the other way round.

    A partner has the same path but for its suffix and the folders that tell images from annotations; or else one that
    differs in case or in how its accents are composed; or else it is the only one left of that stem in the same split.

    Args:
        names: of files, relative to the same folder as the partners, with forward slashes.
        partners: likewise.
    """
    pairs = {}
    by_place = _group(partners, _place)
    for name in names:
        if found := by_place.get(_place(name)):
            pairs[name] = min(found, key=lambda partner: (not _is_in_kind_folder(partner), partner))
    keys: tuple[Callable[[str], Hashable], ...] = (
        lambda name: _fold(_place(name)),
        lambda name: (_fold(stem(name)), split_of(name)),
    )
    for key in keys:
        used = set(pairs.values())
        names_of = _group([name for name in names if name not in pairs], key)
        partners_of = _group([partner for partner in partners if partner not in used], key)
        for value, alike in names_of.items():
            if len(alike) == 1 and len(partners_of.get(value, [])) == 1:
                pairs[alike[0]] = partners_of[value][0]
    return pairs


def by_split(names: Sequence[str]) -> tuple[dict[Split, list[str]], list[str]]:
    """The names of each split by their folders, and those of none; all are for training if no folder names a split."""
    groups: dict[Split | None, list[str]] = _group(names, split_of)
    rest = groups.pop(None, [])
    if not groups:
        return ({"train": rest} if rest else {}), []
    return {split: groups[split] for split in SPLITS if split in groups}, rest


def split_of(name: str) -> Split | None:
    """The split that the first of the folders to do so names."""
    return next(filter(None, map(split_named, name.split("/")[:-1])), None)


def name_in_split(name: str) -> str:
    """A name without its suffix and the folders in which formats differ: of splits, of images and of annotations.

    So a data set in another format is divided by a hash in the same way.
    """
    *folders, file = name.split("/")
    kept = [folder for folder in folders if folder.lower() not in _KIND_FOLDERS and split_named(folder) is None]
    return "/".join([*kept, stem(file)])


def count_splits(files: Mapping[Split, Sequence[object]], what: str) -> str:
    """Such as "240 train, 20 val images"."""
    return ", ".join(f"{len(files[split]):,} {split}" for split in SPLITS if split in files) + f" {what}"


def stem(name: str) -> str:
    """The name of a file without folders and suffix."""
    return PurePosixPath(name).stem


def parent(name: str) -> str:
    """The folder of a file, empty for the root."""
    return name.rpartition("/")[0]


def folders_of(names: Sequence[str]) -> list[str]:
    """The folders that files are in, sorted; "." is the root."""
    return sorted({parent(name) or "." for name in names})


def _group(names: Sequence[str], key: Callable[[str], K]) -> dict[K, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _place(name: str) -> str:
    """A path without its suffix and without folders that tell images from annotations."""
    *folders, file = name.split("/")
    return "/".join([*(folder for folder in folders if folder.lower() not in _KIND_FOLDERS), stem(file)])


def _fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _is_in_kind_folder(name: str) -> bool:
    return any(folder.lower() in _KIND_FOLDERS for folder in name.split("/")[:-1])
