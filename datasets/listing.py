"""List the image files below a folder, and count what is passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datasets.images.read import IMAGE_SUFFIXES

# Made by macOS, Synology's and QNAP's disks, and Windows; as are all names that begin with a dot.
_SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "thumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
    }
)
_NAMED_KINDS = 8


@dataclass(frozen=True)
class ImageListing:
    """The images below a folder; the sum of two has the images and counts of both.

    Attributes:
        names: of image files, relative to the root, with forward slashes.
        passed_over: the number of other files of each kind: a suffix such as ".txt", "hidden", "without a suffix",
            "in deeper folders", ...
    """

    names: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: ImageListing) -> ImageListing:
        return ImageListing(self.names + other.names, self.passed_over + other.passed_over)

    def line(self) -> str:
        """Such as "12 files passed over: 8 .txt, 3 hidden, 1 .psd"; empty if there are none."""
        total = self.passed_over.total()
        if total == 0:
            return ""
        kinds = sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))
        parts = [f"{count:,} {kind}" for kind, count in kinds[:_NAMED_KINDS]]
        if rest := sum(count for _, count in kinds[_NAMED_KINDS:]):
            parts.append(f"{rest:,} of other kinds")
        return f"{total:,} file{'s' if total > 1 else ''} passed over: {', '.join(parts)}"


def list_images(
    root: Path, folder: str = "", *, recursive: bool = True, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> ImageListing:
    """The image files below a folder, sorted, and what else is there.

    Links to folders are followed, unless they lead to a folder that they are in. A link whose image is missing is
    listed: it is unreadable when it is read. Hidden folders, such as `.git` and `__MACOSX`, count as one file.

    Args:
        root: the folder that names are relative to.
        folder: below it, with forward slashes; empty for `root` itself.
        recursive: with the images in deeper folders, which are passed over and counted otherwise.
        suffixes: of the files to list, in lower case.

    Raises:
        ValueError: if the folder cannot be listed.
    """
    start = root / folder
    names: list[str] = []
    passed_over: Counter[str] = Counter()
    try:
        real = start.resolve(strict=True)
        above = frozenset(_identity(parent) for parent in (real, *real.parents))
        for depth, name, kind in _files(start, "" if folder in ("", ".") else f"{folder}/", above, suffixes, 0):
            if kind is not None:
                passed_over[kind] += 1
            elif depth > 0 and not recursive:
                passed_over["in deeper folders"] += 1
            else:
                names.append(name)
    except OSError as error:
        raise ValueError(f"{error.filename or start}: {error.strerror}; expected a folder of images") from error
    return ImageListing(sorted(names), passed_over)


def has_images(root: Path) -> bool:
    """Whether there is an image file below a folder; looks no further than the first.

    Raises:
        ValueError: if the folder cannot be listed.
    """
    try:
        return any(kind is None for _, _, kind in _files(root, "", frozenset({_identity(root)}), IMAGE_SUFFIXES, 0))
    except OSError as error:
        raise ValueError(f"{error.filename or root}: {error.strerror}; expected a folder of images") from error


def list_files(root: Path) -> dict[str | None, list[str]]:
    """The files below a folder, sorted, by kind: a suffix such as ".txt", "hidden", ..., and None for images.

    Raises:
        ValueError: if the folder cannot be listed.
    """
    files: dict[str | None, list[str]] = {}
    try:
        for _, name, kind in _files(root, "", frozenset({_identity(root)}), IMAGE_SUFFIXES, 0):
            files.setdefault(kind, []).append(name)
    except OSError as error:
        raise ValueError(f"{error.filename or root}: {error.strerror}; expected a folder of images") from error
    return {kind: sorted(names) for kind, names in files.items()}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or made by an operating system for itself: neither an image nor a class."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _files(
    folder: Path, prefix: str, above: frozenset[tuple[int, int]], suffixes: Collection[str], depth: int
) -> Iterator[tuple[int, str, str | None]]:
    """Depth, name and kind of each file; the kind of an image is None."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if is_hidden(entry.name):
                yield depth, name, "hidden"
            elif not entry.is_dir():
                yield depth, name, _kind(entry, suffixes)
            else:
                identity = _identity(entry)
                if identity in above:
                    yield depth, name, "linked to a folder that it is in"
                else:
                    yield from _files(Path(entry.path), f"{name}/", above | {identity}, suffixes, depth + 1)


def kind_of(name: str | Path) -> str:
    """What a file counts as if it is passed over: its suffix in lower case."""
    return Path(name).suffix.lower() or "without a suffix"


def _kind(entry: os.DirEntry[str], suffixes: Collection[str]) -> str | None:
    if kind_of(entry.name) not in suffixes:
        return kind_of(entry.name)
    is_missing = entry.is_symlink() and not Path(entry.path).exists()
    return None if is_missing or entry.is_file() else "not regular"  # such as a pipe, which would be read forever


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
