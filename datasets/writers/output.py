"""A new folder of a data set: made and tested first, filled under another name, renamed when it is whole."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from datasets.files import whole_folder
from datasets.progress import Progress

# Not in file names, so that any program and any list of names can have them: control characters, half surrogates (of
# names that are not UTF-8) and backslashes.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\\]")

MAX_NAME_BYTES = 200  # of 255 on most file systems


class OutputFolder:
    """A folder that is being filled.

    Attributes:
        path: the folder, under its temporary name.
        notes: what the format cannot hold, and what was changed, a line each.
    """

    def __init__(self, path: Path, *, copies: bool, progress: Progress) -> None:
        """Args: path: see above; copies: of image files, instead of hard links; progress: counts image files."""
        self.path = path
        self.notes: list[str] = []
        self._copies, self._progress = copies, progress
        self._folders: set[Path] = set()

    def file(self, name: str) -> Path:
        """The path of a file, whose folder is made."""
        path = self.path / name
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        return path

    def add_text(self, name: str, text: str) -> None:
        """Write a text file."""
        self.file(name).write_text(text, encoding="utf-8")

    def add_image(self, source: Path, name: str) -> None:
        """A hard link to an image file, or where there can be none, a copy."""
        target = self.file(name)
        if self._copies or not _is_linked(source, target):
            shutil.copyfile(source, target)
        self.advance()

    def advance(self) -> None:
        """Count an image in the progress bar."""
        self._progress.advance()

    def note_count(self, count: int, text: str) -> None:
        """Add a note with a count, unless it is 0."""
        if count:
            self.notes.append(f"{count:,} {text}")


def _is_linked(source: Path, target: Path) -> bool:
    with suppress(OSError):  # another file system, one without hard links, or another user's file
        os.link(os.path.realpath(source), target)  # os.link may link to a symbolic link itself
        return True
    return False


@contextmanager
def new_output(out: Path, root: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, which becomes `out` if the block ends without an error: `whole_folder`.

    Args:
        out: the new folder.
        root: of the data, outside which it must be.

    Raises:
        ValueError: if `out` has something in it, is in `root`, or cannot be written to.
    """
    place = Path(os.path.abspath(out))
    if place.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"--out {out}: is inside the data, {root}, which are left as they are; name a folder elsewhere"
        )
    if os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir())):
        raise ValueError(f"--out {out}: exists; nothing is overwritten, so name a new folder")
    try:
        with whole_folder(place) as temporary:
            yield temporary
    except OSError as error:
        file = error.filename2 or error.filename  # of a copy, the second is the one that is written
        where = f" ({file})" if file else ""
        raise ValueError(f"--out {out}: {error.strerror or error}{where}; nothing is left there") from error


def flat_names(names: Sequence[str]) -> list[str]:
    """File names without folders, distinct also without their suffixes and in any case, in the order given.

    A name that occurs in several folders gets those in front, as in `left_0001.jpg`. Characters that other programs or
    lists of names cannot have become `_`.
    """
    bases = [_safe(name.rsplit("/", 1)[-1]) for name in names]
    counts = Counter(map(_key, bases))
    taken: set[str] = set()
    distinct: list[str] = []
    for name, base in zip(names, bases, strict=True):
        wanted = base if counts[_key(base)] == 1 else _safe(name.replace("/", "_"))
        if len(wanted.encode()) > MAX_NAME_BYTES:
            wanted = base
        stem, suffix = Path(wanted).stem, Path(wanted).suffix
        candidate, number = wanted, 1
        while _key(candidate) in taken or (candidate != base and _key(candidate) in counts):
            number += 1
            candidate = f"{stem}-{number}{suffix}"
        taken.add(_key(candidate))
        distinct.append(candidate)
    return distinct


def renamed(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """A line if files have other names than they had, folders aside."""
    pairs = [(before, after) for before, after in zip(old, new, strict=True) if before.rsplit("/", 1)[-1] != after]
    if not pairs:
        return []
    why = "the same name in two folders, or characters that not every program can have in a file name"
    return [f"{len(pairs):,} files are renamed ({why}); the first, {pairs[0][0]!r} is {pairs[0][1]!r}"]


def _safe(name: str) -> str:
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", name))
    return f"_{name[1:]}" if name.startswith(".") else name


def _key(name: str) -> str:
    return Path(name).stem.casefold()
