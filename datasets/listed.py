"""The images that a list names: the folder they are in is found by looking, and names may lack their suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.files import missing_files
from datasets.images.read import IMAGE_SUFFIXES
from datasets.listing import is_hidden, list_images
from datasets.locate import locate
from datasets.stores import ImageFiles

MAX_DEPTH = 3  # of the folders that are looked at
MAX_FOLDERS = 500


def find_listed(
    root: Path, names: Sequence[str], origin: Path, *, folders: Sequence[str]
) -> tuple[ImageFiles, list[str]]:
    """The files of a list of names, and warnings about names that are others on the disk.

    A name that is nowhere is kept, and counts as an unreadable image when it is read.

    Args:
        root: where the data are.
        names: as in the list; perhaps without suffix.
        origin: the list, for messages.
        folders: that the names may be relative to, below root, the most likely first.

    Raises:
        ValueError: naming origin, if none of the files is there, or a name points outside its folder.
    """
    try:
        files, warnings = _find(root, names, origin, folders)
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"{origin}: {error.strerror}: {error.filename}") from error
    if _none_exists(root, files):
        where = ", ".join(str(root / folder) for folder in folders[:3])
        raise ValueError(
            f"{origin}: none of its {len(files)} images is there, the first {names[0]!r}; looked in {where}"
        )
    return ImageFiles(root, np.array([*map(os.fsencode, files)], np.bytes_)), warnings


def _find(root: Path, names: Sequence[str], origin: Path, folders: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files relative to root, and warnings."""
    lack_suffix = not any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)
    by_stem, line = _by_stem(root, names, folders) if lack_suffix else (names, "")
    files, lines = locate(root, folders, by_stem, origin)
    if _none_exists(root, files) and not lack_suffix:
        by_stem, line = _by_stem(root, names, folders)
        if line:
            files, lines = locate(root, folders, by_stem, origin)
    return files, [*([f"{origin}: {line}"] if line else []), *lines]


def _none_exists(root: Path, files: Sequence[str]) -> bool:
    return len(missing_files([root / file for file in files])) == len(files)


def folders_below(root: Path, *first: str) -> list[str]:
    """The folders below root, shallow ones first, relative to it; those in `first` before all others."""
    found, level = [""], [""]
    for _ in range(MAX_DEPTH):
        level = [
            os.path.join(folder, entry.name)
            for folder in level
            for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name)
            if entry.is_dir() and not is_hidden(entry.name)
        ][:MAX_FOLDERS]
        found += level
    return list(dict.fromkeys([*first, *found]))


def _by_stem(root: Path, names: Sequence[str], folders: Sequence[str]) -> tuple[list[str], str]:
    """The names with the suffixes of the files in the first folder that has some of them, and a line about it."""
    stems = [_stem(name) for name in names]
    for folder in folders:
        if not (root / folder).is_dir():
            continue
        prefix = "" if folder in ("", ".") else f"{folder}/"
        name_of = {_stem(name): name for name in (n.removeprefix(prefix) for n in list_images(root, folder).names)}
        if any(stem in name_of for stem in stems):
            files = [name_of.get(stem, name) for stem, name in zip(stems, names, strict=True)]
            return files, f"its names are taken for the files in {root / folder} with another suffix or none"
    return list(names), ""


def _stem(name: str) -> str:
    """A name without the suffix of images, if it has one."""
    path = Path(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else name
