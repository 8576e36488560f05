"""Find the tar files that a user means, and what is written beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import braceexpand

from datasets.files import existing_folder, read_json
from datasets.images.read import IMAGE_SUFFIXES
from datasets.listing import is_hidden
from datasets.splits import SPLIT_WORDS, SPLITS
from datasets.types import Split
from datasets.words import plural

CARD = "shards.json"
MAX_TARS = 100_000


@dataclass(frozen=True)
class Shards:
    """Tar files of records, in WebDataset's layout.

    Attributes:
        root: the folder, file or list that the user gave, for messages.
        tars: the files.
        card: what is said of them in CARD beside them: `kind`, and `class_names`, `categories` or `attribute_names`.
    """

    root: Path
    tars: tuple[Path, ...]
    card: Mapping[str, Any] = field(default_factory=dict)

    def by_split(self) -> dict[Split, Shards]:
        """The tar files of each split, by the words in their names or else in those of their folders.

        Without such words all are for train; files without one beside others with one are in no split.
        """
        parts: dict[Split, list[Path]] = {}
        for tar in self.tars:
            if (split := self._split_of(tar)) is not None:
                parts.setdefault(split, []).append(tar)
        if not parts:
            return {"train": self}
        return {split: replace(self, tars=tuple(parts[split])) for split in SPLITS if split in parts}

    def _split_of(self, tar: Path) -> Split | None:
        below = tar.relative_to(self.root).parts if tar.is_relative_to(self.root) else (tar.parent.name, tar.name)
        for name in reversed(below):
            for word in re.findall("[a-z]+", name.lower()):
                if word in SPLIT_WORDS:
                    return SPLIT_WORDS[word]
        return None


def open_root(root: str | Path, setting: str = "data.root") -> Path | Shards:
    """The folder of a data set, or the tar files that are given instead of one: a file, or a list in braces.

    Raises:
        ValueError: naming the setting, if there is none.
    """
    text = str(root)
    if Path(text).is_dir() or not (text.endswith(".tar") or "{" in text):
        return existing_folder(root, setting)
    tars = [Path(name) for name in _expand(text, setting)]
    missing = [str(tar) for tar in tars if not tar.is_file()]
    if missing:
        raise ValueError(
            f"{setting}: {root} means {plural(len(tars), 'tar file')}, but there is no {_some_of(missing)}"
        )
    return Shards(Path(text), tuple(tars), read_card(tars[0].parent))


def find_shards(root: Path | Shards, format: str = "auto") -> Shards | None:
    """The tar files that are meant, or those in a folder; None if its data are in another form.

    Tar files beside images are taken for archives of these, unless the format or CARD says that they are data.

    Raises:
        ValueError: if another format is asked for than tar files, or there are no tar files.
    """
    if isinstance(root, Shards):
        if format not in ("auto", "shards"):
            raise ValueError(f"{root.root}: tar files, but data.format is {format}; expected auto or shards")
        return root
    if format not in ("auto", "shards") or not root.is_dir():
        return None
    if format == "auto" and not (root / CARD).is_file() and _has_images(root):
        return None
    tars = sorted(path for path in root.rglob("*.tar") if path.is_file() and not is_hidden(path.name))
    if not tars and format == "shards":
        raise ValueError(f"{root}: expected tar files with pairs such as key.jpg and key.json, found no tar file")
    card = read_card(root)
    listed = card.get("tars", [])
    missing = [name for name in listed if root / str(name) not in tars] if isinstance(listed, list) else []
    if missing:
        raise ValueError(f"{root / CARD}: {plural(len(listed), 'tar file')}, but there is no {_some_of(missing)}")
    return Shards(root, tuple(tars), card) if tars else None


def read_card(folder: Path) -> dict[str, Any]:
    """What CARD in a folder says; nothing if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / CARD
    if not path.is_file():
        return {}
    card = read_json(path, "what the tar files beside it have")
    if not isinstance(card, dict):
        raise ValueError(f"{path}: expected a JSON object with kind, and class_names, categories or attribute_names")
    return card


def names_in_card(shards: Shards, key: str) -> list[str] | None:
    """A list of names in the card; None if it has none of that key.

    Raises:
        ValueError: if it is no list of different names.
    """
    names = shards.card.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"{shards.root}: {CARD}: expected a list of different names for {key}")
    return names


def _expand(text: str, setting: str) -> Sequence[str]:
    """The names that a list in braces means, as Bash and WebDataset expand it.

    Raises:
        ValueError: if it is not closed, or means too many.
    """
    names = []
    try:
        for name in braceexpand.braceexpand(text):
            names.append(name)
            if len(names) > MAX_TARS:
                raise ValueError(f"more than {MAX_TARS:,} names")
    except ValueError as error:  # also of unbalanced braces
        raise ValueError(f"{setting}: {text}: {error}; expected a list such as train-{{0000..0009}}.tar") from error
    return names


def _some_of(names: Sequence[str]) -> str:
    return names[0] + (f", nor {len(names) - 1} more" if len(names) > 1 else "")


def _has_images(root: Path) -> bool:
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in _names_below(root))


def _names_below(root: Path) -> Iterator[str]:
    for _, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield from (name for name in files if not is_hidden(name))
