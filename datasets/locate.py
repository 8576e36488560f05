"""Find the files that annotations or lists name, also where the names are not literally those on the disk.

Annotations travel between machines: backslashes, %20, composed or decomposed accents, another case of the suffix, an
absolute path of another machine, a folder too many or too few, and in lists no suffix.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from datasets.files import missing_files, whole_characters
from datasets.images.read import IMAGE_SUFFIXES
from datasets.listing import is_hidden, list_images
from datasets.stores import ImageFiles
from datasets.words import plural

NUM_PROBED = 20  # file names by which the folder of the images is found
MAX_DEPTH = 3  # of the folders below a root
MAX_FOLDERS = 500


def locate(root: Path, folders: Sequence[str], names: Sequence[str], origin: Path) -> tuple[list[str], list[str]]:
    """The files of a list of names, relative to `root`, and a warning if some have another name on the disk.

    A name that is nowhere keeps its place in the most likely folder, never above the root, and counts as an unreadable
    image when it is read.

    Args:
        root: where the data are.
        folders: that the names may be relative to, below `root`, the likeliest first; the one that has most of them is
            taken.
        names: as in the annotations.
        origin: the annotations, for messages.
    """
    folder = _likely_folder(root, folders, names)
    files = [os.path.normpath(os.path.join(folder, name)) for name in names]
    paths = [os.path.join(root, file) for file in files]
    outside = [_is_outside(name) for name in names]  # where nothing is looked for
    lost = set(missing_files([path for path, is_outside in zip(paths, outside, strict=True) if not is_outside]))
    rows = [row for row, path in enumerate(paths) if outside[row] or path in lost]
    if not rows:
        return files, []
    index = _index_files(root)
    num_found, first = 0, ""
    for row in rows:
        found = _best_match(names[row], index, folders)
        if found is None:
            files[row] = relative_name(names[row], folder)
            continue
        num_found += 1
        first = first or f"{names[row]!r} is {found!r}"
        files[row] = found
    if not num_found:
        return files, []
    line = f"{origin}: {num_found} of {len(names)} file names are others on the disk; the first, {first}"
    return files, [line]


def locate_images(
    root: Path, names: Sequence[str], origin: Path, *, folders: Sequence[str]
) -> tuple[ImageFiles, list[str]]:
    """The images that a list names, perhaps without their suffix, and warnings about names that are others on the disk.

    A name that is nowhere is kept, and counts as an unreadable image when it is read.

    Args:
        root: where the data are.
        names: as in the list.
        origin: the list, for messages.
        folders: that the names may be relative to, below root, the most likely first.

    Raises:
        ValueError: naming origin, if none of the files is there, or a folder cannot be listed.
    """
    try:
        files, warnings = _locate_by_stem(root, names, origin, folders)
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"{origin}: {error.strerror}: {error.filename}") from error
    if _none_exists(root, files):
        where = ", ".join(str(root / folder) for folder in folders[:3])
        raise ValueError(
            f"{origin}: none of its {len(files)} images is there, the first {names[0]!r}; looked in {where}"
        )
    return ImageFiles(root, files), warnings


def unlisted(files: ImageFiles, left_out: Iterable[str] = ()) -> list[str]:
    """A warning if there are other images in the folder that has all of these.

    Args:
        files: that a list names.
        left_out: names in the list of others, which the reader has left out and counted.
    """
    names = [files.name(row) for row in range(len(files))]
    folder = os.path.commonpath([name.rpartition("/")[0] for name in names])
    others = set(list_images(files.root, folder).names) - set(names)
    stems = {_stem(Path(name).name) for name in left_out}
    passed_over = sorted(name for name in others if _stem(Path(name).name) not in stems)
    if not passed_over:
        return []
    count = plural(len(passed_over), "image")
    return [f"{files.root / folder}: {count} passed over, which no list names (the first is {passed_over[0]})"]


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


def relative_name(name: str, folder: str = "") -> str:
    """A name of a file in a folder, relative to the root of both.

    What is above the root is cut off, as in a path of another machine, so that the name is always one inside it.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # no file has such a name
        name = whole_characters(name)
    parts = [part for part in re.split(r"[\\/]", name.replace("\0", "")) if part]
    if name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
        folder = ""
    path = os.path.normpath("/".join(filter(None, [folder, *parts])))
    return "/".join(part for part in path.split("/") if part not in {"", ".", ".."}) or "unnamed"


def _locate_by_stem(
    root: Path, names: Sequence[str], origin: Path, folders: Sequence[str]
) -> tuple[list[str], list[str]]:
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


def _by_stem(root: Path, names: Sequence[str], folders: Sequence[str]) -> tuple[list[str], str]:
    """The names with the suffixes of the files in the first folder that has some of them, and a line about it."""
    stems = [_stem(name) for name in names]
    for folder in folders:
        if not os.path.isdir(root / folder):
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


def _likely_folder(root: Path, folders: Sequence[str], names: Sequence[str]) -> str:
    """The folder below which most of the first names are files; the first one that exists if none has any."""
    existing = [folder for folder in dict.fromkeys(folders) if os.path.isdir(root / folder)] or ["."]
    probed = [name for name in names[:NUM_PROBED] if "\0" not in name and not _is_outside(name)]
    return max(existing, key=lambda folder: sum(os.path.isfile(root / folder / name) for name in probed))


def _is_outside(name: str) -> bool:
    return os.path.isabs(name) or os.path.normpath(name).startswith(os.pardir)


def _index_files(root: Path) -> dict[str, list[tuple[list[str], str]]]:
    """Normalised base name -> the normalised parts and the name of each file below a folder; without hidden ones."""
    index = defaultdict(list)
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for file in files:
            name = os.path.relpath(os.path.join(folder, file), root)
            parts = _normalise(name)
            index[parts[-1]].append((parts, name))
    return index


def _best_match(name: str, index: dict[str, list[tuple[list[str], str]]], folders: Sequence[str]) -> str | None:
    """The file with most trailing parts in common with a name, of several the one in the likeliest folder.

    None if there is none, or it is not the only one.
    """
    parts = _normalise(name)

    def rank(found: tuple[list[str], str]) -> tuple[int, int]:
        inside = (number for number, folder in enumerate(folders) if Path(folder) in Path(found[1]).parents)
        return -_num_common(parts, found[0]), next(inside, len(folders))

    candidates = sorted(index.get(parts[-1], []), key=rank)
    is_unique = len(candidates) == 1 or (len(candidates) > 1 and rank(candidates[0]) < rank(candidates[1]))
    return candidates[0][1] if is_unique else None


def _normalise(name: str) -> list[str]:
    text = unicodedata.normalize("NFC", unquote(name, errors="surrogateescape")).casefold()
    return [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")] or [""]


def _num_common(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[-1 - count] == b[-1 - count]:
        count += 1
    return count
