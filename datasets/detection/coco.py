"""COCO's JSON format: the official layout, Roboflow's export, or one JSON beside a folder of images.

Here its files are found, and the images that they name; `coco_json.py` reads what is in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from datasets.detection.annotated import AnnotatedImages, Objects, build_annotated
from datasets.detection.coco_json import KEYS, check_meaning, read_coco_json
from datasets.detection.sizes import fill_sizes
from datasets.detection.sniff import read_ends
from datasets.listing import list_files
from datasets.locate import locate
from datasets.splits import SPLITS, SplitData, split_folders, split_named
from datasets.stores import ImageFiles
from datasets.types import Split
from datasets.words import some

EXPECTED = "a JSON file with 'images', 'annotations' and 'categories', in annotations/ or beside the images"
_OTHER_KINDS = ("captions_", "image_info_", "person_keypoints_", "stuff_", "panoptic_")  # of the official annotations
_CERTAIN = re.compile(r"instances_|_annotations\.coco\.json$")  # is COCO's, whatever is in it
MAX_FILES = 20  # a folder with more JSON files has one for each image
SNIFFED_BYTES = 1 << 16


def find_coco(
    root: Path,
    images: Mapping[Split, str | None] | None = None,
    annotations: Mapping[Split, str | None] | None = None,
) -> SplitData[AnnotatedImages] | None:
    """The splits of a folder with COCO annotations; None if it has none.

    Args:
        root: the folder.
        images: folders given by the user, relative to root; the others are looked for.
        annotations: files given by the user, relative to root; those of the other splits are looked for.
    """
    images = images or {}
    given = {split: root / name for split, name in (annotations or {}).items() if name}
    files, unused = annotation_files(root, given)
    if not files:
        return None
    lines = [f"{root}: {some(unused, 'annotation file')} not used"] if unused else []

    def read(split: Split) -> AnnotatedImages:
        source = read_coco(root, only_one(root, split, files[split]), images.get(split), split)
        if split == next(iter(files)):
            source.warnings += lines + _unnamed_images(root, data, source, [name for name in files if name != split])
        return source

    found = ", ".join(" or ".join(_relative(root, file) for file in several) for several in files.values())
    data = SplitData(root, f"COCO annotations ({found})", {split: partial(read, split) for split in files})
    return data


def read_coco(root: Path, file: Path, images: str | None = None, split: Split = "train") -> AnnotatedImages:
    """Read and check the annotations of one split; images are opened only where the annotations lack their sizes.

    Args:
        root: folder of the data.
        file: the JSON file.
        images: folder of the images, relative to root; None to look for it.
        split: of the file, by which the folder is looked for.

    Raises:
        ValueError: naming the file and the fault, see `read_coco_json`; or there is no such folder of images.
    """
    if images is not None and not os.path.isdir(root / images):
        raise ValueError(f"{root / images}: there is no such folder; expected that of the images for {split}")
    content = read_coco_json(file)
    folders = image_folders(root, file, split) if images is None else [images]
    located, warnings = locate(root, folders, content.image_names, file)
    store = ImageFiles(root, located)
    sizes_hw, lines = fill_sizes(store, content.sizes_hw, file)
    check_meaning(file, content.boxes_xywh, sizes_hw[content.image_rows])
    starts, sizes = content.boxes_xywh[:, :2], content.boxes_xywh[:, 2:]
    boxes_xyxy = np.concatenate([starts, starts + sizes], 1)
    objects = Objects(content.image_rows, content.class_ids, boxes_xyxy, content.is_crowd, content.areas_px)
    if content.num_null_areas:
        count = f"{content.num_null_areas} of {len(objects)}"
        lines.append(f"{file}: {count} boxes have area null: the area of the box is taken")
    return build_annotated(file, store, sizes_hw, content.categories, objects, content.describe, warnings + lines)


def annotation_files(root: Path, given: Mapping[Split, Path]) -> tuple[dict[Split, list[Path]], list[str]]:
    """The files that may be those of each split, and the names of others.

    One that names no split is that of train, if no other is.
    """
    folders = [root, *(root / name for names in split_folders(root).values() for name in names)]
    folders += [folder / name for folder in folders for name in ("annotations", "Annotations", "labels")]
    given_files = {file.resolve() for file in given.values()}
    candidates: dict[Split | None, list[Path]] = {}
    for folder in folders:
        files = sorted(file for file in folder.glob("*.json") if file.is_file()) if folder.is_dir() else []
        for file in files:
            is_sniffed = len(files) <= MAX_FILES and not file.name.startswith(_OTHER_KINDS)
            if file.resolve() not in given_files and (_is_certain(file) or (is_sniffed and _is_coco(file))):
                candidates.setdefault(_split_of(root, file), []).append(file)
    unused = candidates.pop(None, [])
    if "train" not in candidates and "train" not in given:
        candidates["train"], unused = unused, []
    chosen: dict[Split, list[Path]] = {}
    for split in SPLITS:
        files = candidates.get(split, [])
        if split in given:
            chosen[split] = [given[split]]
        elif files:
            chosen[split] = list(filter(_is_certain, files)) or files
            unused += [file for file in files if file not in chosen[split]]
    return chosen, [_relative(root, file) for file in unused]


def only_one(root: Path, split: Split, files: Sequence[Path]) -> Path:
    """The only file of a split.

    Raises:
        ValueError: if there are several.
    """
    if len(files) > 1:
        names = ", ".join(_relative(root, file) for file in files[:4])
        way_out = "move the others elsewhere"  # there is no setting for test
        if split != "test":
            way_out = f"name one: --data.{split}_annotations {_relative(root, files[0])}"
        raise ValueError(f"{root}: {len(files)} annotation files may be those of {split} ({names}); {way_out}")
    return files[0]


def _split_of(root: Path, file: Path) -> Split | None:
    """The split that a file's name, or that of one of its folders below the root, has in it."""
    parts = file.relative_to(root).with_suffix("").parts
    words = [word for part in reversed(parts) for word in re.split(r"[^A-Za-z0-9]+", part)]
    return next(filter(None, map(split_named, words)), None)


def _is_certain(file: Path) -> bool:
    return _CERTAIN.search(file.name) is not None


def _is_coco(file: Path) -> bool:
    """Whether the beginning or the end of a JSON file has COCO's keys."""
    text = read_ends(file, SNIFFED_BYTES)
    return b'"shapes"' not in text and sum(f'"{key}"'.encode() in text for key in KEYS) >= 2


def image_folders(root: Path, file: Path, split: Split) -> list[str]:
    """Folders that the file names may be relative to, relative to the root."""
    folder = file.parent.relative_to(root) if file.is_relative_to(root) else Path()
    of_split = split_folders(root).get(split, [])
    in_images = split_folders(root / "images").get(split, []) if (root / "images").is_dir() else []
    candidates = [
        *(Path(name) for name in of_split),
        *(Path(name) / "images" for name in of_split),
        *(Path("images") / name for name in in_images),
        folder / "images",
        folder,
        folder / file.stem,
        Path("images"),
        Path(),
        *sorted(path.relative_to(root) for path in root.iterdir() if path.is_dir()),
    ]
    return [str(candidate) for candidate in candidates]


def _unnamed_images(
    root: Path, data: SplitData[AnnotatedImages], source: AnnotatedImages, others: Sequence[Split]
) -> list[str]:
    """A warning if there are images that the annotations of no split name."""
    try:
        parts = [source, *(data[split] for split in others)]
    except ValueError:  # it is raised again when that split is used
        return []
    named = {part.images.name(row) for part in parts for row in range(len(part))}
    if unnamed := [name for name in list_files(root).get(None, []) if name not in named]:
        return [f"{root}: {some(unnamed, 'image')} in no annotation file, left out"]
    return []


def _relative(root: Path, file: Path) -> str:
    return str(file.relative_to(root) if file.is_relative_to(root) else file)
