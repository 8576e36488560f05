"""Folders of images and of masks of the same names: Pascal VOC's layout, any with `classes.txt`, instance masks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path

from datasets.detection.pairing import by_split, count_splits, pair, parent, stem
from datasets.listing import list_files
from datasets.segmentation.masked import MaskedImages, MaskFiles
from datasets.segmentation.masks import VOID_NAMES, MaskCoding
from datasets.splits import SPLITS, SplitData, split_named
from datasets.stores import ImageFiles
from datasets.types import VOID, Split
from datasets.words import some

CLASSES = "classes.txt"
INSTANCE_CLASSES = ("background", "object")
VOC_MASKS, VOC_LISTS = "SegmentationClass", "ImageSets/Segmentation"
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
EXPECTED = (
    f"images and masks of the same names, in folders such as images/ and masks/, and {CLASSES} with a name a line, the "
    "first for id 0"
)
_TRAINVAL = "trainval"
_MASK_WORD = re.compile(
    r"masks?|annot(?:ation)?s?|labels?|segmentationclass(?:aug)?|segmentations?|segm?", re.IGNORECASE
)
_IMAGE_WORD = re.compile(r"images?|imgs?|jpegimages|photos", re.IGNORECASE)
_OBJECT_MASKS = "segmentationobject"  # VOC's masks of instances
_MASK_ENDING = re.compile(r"[_-](?:mask|label|labels|annotation|seg|gt|l)$", re.IGNORECASE)
_MASK_FOLDER = "labels"  # a name that `pair` takes for a folder of annotations


def read_coding(root: Path, *, is_voc: bool = False, is_of_instances: bool = False) -> MaskCoding | None:
    """The coding of the masks in a folder by its list of classes, which VOC and instance masks can do without.

    Raises:
        ValueError: if the list is damaged.
    """
    path = root / CLASSES
    names = _read_names(path) if path.is_file() else None
    if is_of_instances:
        if names is not None and len(names) != len(INSTANCE_CLASSES):
            raise ValueError(
                f"{path}: {len(names)} names; expected 2 for instance masks, such as background and person"
            )
        background, thing = names or INSTANCE_CLASSES
        return MaskCoding.of_instances((background, thing))
    if names is None and not is_voc:
        return None
    return MaskCoding.of_names(names or VOC_CLASSES, has_colours=is_voc)


def has_voc_masks(root: Path) -> bool:
    """Whether a folder has VOC's folder of masks somewhere."""
    return any(VOC_MASKS in name.split("/")[:-1] for name in list_files(root).get(None, []))


def has_masks(root: Path) -> bool:
    """Whether there are images in a folder named like one of masks."""
    return any(map(_is_mask, list_files(root).get(None, [])))


def has_pairs(root: Path) -> bool:
    """Whether an image has a mask of its name: folders of classes may be called `with_mask`, too."""
    return bool(_pairs(root, list_files(root).get(None, []))[0])


def open_mask_files(root: Path, coding: MaskCoding) -> SplitData[MaskedImages]:
    """The splits of a folder: by lists `train.txt`, `val.txt` and `test.txt`, or else by folders of these names.

    A line of a list is the name of an image, perhaps without folder and suffix, and perhaps the name of its mask. Lists
    in VOC's `ImageSets/Segmentation` go before those beside the folders.

    Raises:
        ValueError: if no image has a mask.
    """
    listed = list_files(root)
    files = listed.get(None, [])
    mask_of, lines = _pairs(root, files)
    if not mask_of:
        raise ValueError(f"{root}: no image has a mask of its name; expected {EXPECTED}")
    lists = _split_lists(listed.get(".txt", []))
    if lists:
        parts = {}
        lines = []  # what is in no list is left out on purpose
        for split, text in lists.items():
            parts[split], missing = _read_list(root / text, mask_of, files)
            lines += [f"{root / text}: {some(missing, 'image')} without a mask, left out"] if missing else []
        where = f"lists in {parent(next(iter(lists.values()))) or '.'}/"
    else:
        names, rest = by_split(list(mask_of))
        parts = {split: [(name, mask_of[name]) for name in names[split]] for split in names}
        lines += [f"{root}: {some(rest, 'image')} of no split, left out"] if rest else []
        where = "by folders" if len(parts) > 1 else "all for training"
    parts = {split: parts[split] for split in SPLITS if parts.get(split)}
    if not parts:
        raise ValueError(f"{root}: no image of its lists has a mask; expected {EXPECTED}")
    first = next(iter(parts))
    readers = {
        split: partial(_source, root, pairs, coding, lines if split == first else []) for split, pairs in parts.items()
    }
    found = f"masks of {len(coding.class_names)} classes ({where}): {count_splits(parts, 'images')}"
    return SplitData(root, found, readers)


def _source(root: Path, pairs: Sequence[tuple[str, str]], coding: MaskCoding, lines: Sequence[str]) -> MaskedImages:
    images, masks = (ImageFiles(root, names) for names in zip(*pairs, strict=True))
    return MaskedImages(images, MaskFiles(masks, coding), coding.class_names, lines).probe()


def _pairs(root: Path, files: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The mask of each image that has one, in the order of the names, and a line for each kind of file without one."""
    masks = {_as_pairable(name): name for name in reversed(files) if _is_mask(name)}
    images = [name for name in files if not _is_mask(name) and _OBJECT_MASKS not in name.lower()]
    partners = pair(images, list(masks))
    mask_of = {name: masks[partners[name]] for name in images if name in partners}
    without = [name for name in images if name not in mask_of]
    alone = sorted(set(masks.values()) - set(mask_of.values()))
    lines = [f"{root}: {some(without, 'image')} without a mask, left out"] if without else []
    lines += [f"{root}: {some(alone, 'mask')} without an image, left out"] if alone else []
    return mask_of, lines


def _is_mask(name: str) -> bool:
    """Whether the last folder whose name tells images from masks is one of masks."""
    for folder in reversed(name.lower().split("/")[:-1]):
        if folder == _OBJECT_MASKS or _IMAGE_WORD.fullmatch(folder):
            return False
        if _MASK_WORD.search(folder):
            return True
    return False


def _as_pairable(name: str) -> str:
    """The name of a mask as `pair` takes it, such as `train/a.png` for `trainannot/a.png`."""
    *folders, file = name.split("/")
    renamed = []
    for folder in folders:
        rest = _MASK_WORD.sub("", folder)
        is_split = split_named(rest) is not None
        renamed.append(rest if is_split else _MASK_FOLDER if rest != folder else folder)
    return "/".join([*renamed, f"{_MASK_ENDING.sub('', stem(file))}.png"])


def _split_lists(texts: Sequence[str]) -> dict[Split, str]:
    """The list of each split; `trainval` stands in for that of train."""
    in_voc = [text for text in texts if f"/{parent(text)}".endswith(f"/{VOC_LISTS}")]
    named: dict[Split, str] = {}
    for text in in_voc or [text for text in texts if not parent(text)]:
        split: Split | None = "train" if stem(text).lower() == _TRAINVAL else split_named(stem(text))
        if split is not None and (split not in named or stem(named[split]).lower() == _TRAINVAL):
            named[split] = text
    return {split: named[split] for split in SPLITS if split in named}


def _read_list(path: Path, mask_of: Mapping[str, str], files: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The images of a list with their masks, and its lines without a mask."""
    exists = set(files)
    by_stem: dict[str, list[str]] = {}
    for name in mask_of:
        by_stem.setdefault(stem(name), []).append(name)
    pairs, missing = [], []
    for line in path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines():
        if not line.strip():
            continue
        text = line.strip().replace("\\", "/").lstrip("/")
        is_name = text in exists or (" " in stem(text) and stem(text) in by_stem)  # of an image, with spaces
        image, *rest = [text] if is_name else (word.lstrip("/") for word in text.split())
        if image not in exists:
            image = _in_most_folders(image, by_stem.get(stem(image), [])) or image
        mask = rest[0] if rest and rest[0] in exists else mask_of.get(image)
        if mask is None or image not in exists:
            missing.append(line.strip())
        else:
            pairs.append((image, mask))
    return pairs, missing


def _in_most_folders(image: str, names: Sequence[str]) -> str | None:
    """Of files of the same stem, the one that has most of the last folders of an image in a list; None without any."""
    folders = image.split("/")[-2::-1]

    def num_common(name: str) -> int:
        alike = (ours == theirs for ours, theirs in zip(folders, name.split("/")[-2::-1], strict=False))
        return sum(takewhile(bool, alike))

    return max(names, key=num_common, default=None)


def _read_names(path: Path) -> list[str]:
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error}); expected a class name a line") from error
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            what = f"{name!r} again" if name else "empty"
            raise ValueError(f"{path}: line {number}: {what}; expected a class name a line, each once")
    num_classes = sum(name.lower() not in VOID_NAMES for name in names)
    if not 0 < num_classes <= VOID or len(names) > VOID + 1:
        raise ValueError(f"{path}: {num_classes} classes; expected a class name a line, 1 to {VOID} of them")
    return names
