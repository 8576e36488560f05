"""Find the tar files that a user means, and what is written beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import braceexpand

from datasets.files import existing_folder, read_json
from datasets.listing import has_images, list_images
from datasets.shards.tars import RemoteTar, Tar, bucket_tars, read_url, remote_tars
from datasets.splits import SPLIT_WORDS, SPLITS
from datasets.types import Split
from datasets.urls import MissingUrlError, beside, check_no_password, is_http
from datasets.words import is_url, plural

CARD = "shards.json"
MAX_TARS = 100_000
MAX_CARD_BYTES = 64 << 20


@dataclass(frozen=True)
class Shards:
    """Tar files of records, in WebDataset's layout.

    Attributes:
        root: the folder, file, list or URL that the user gave, for messages.
        tars: the files.
        card: what is said of them in CARD beside them: `kind`, and `class_names`, `categories` or `attribute_names`.
    """

    root: Path | str
    tars: tuple[Tar | RemoteTar, ...]
    card: Mapping[str, Any] = field(default_factory=dict)

    def by_split(self) -> dict[Split, Shards]:
        """The tar files of each split, by the words in their names or else in those of their folders.

        Without such words all are for train; files without one beside others with one are in no split.
        """
        parts: dict[Split, list[Tar | RemoteTar]] = {}
        folder = "" if self.root == Path() else f"{self.root}/"
        below = [tar.name.removeprefix(folder).split("/") for tar in self.tars]
        folders = zip(*(names[:-1] for names in below), strict=False)
        num_shared = len(list(takewhile(lambda names: len(set(names)) == 1, folders)))  # of a list, above its files
        is_folder = all(tar.name.startswith(folder) for tar in self.tars)
        for tar, names in zip(self.tars, below, strict=True):
            if (split := _split_in(names if is_folder else names[num_shared:])) is not None:
                parts.setdefault(split, []).append(tar)
        if not parts:
            return {"train": self}
        return {split: replace(self, tars=tuple(parts[split])) for split in SPLITS if split in parts}


def open_root(root: str | Path, setting: str = "data.root") -> Path | Shards:
    """The folder of a data set, or the tar files that are given instead of one.

    These are a file, a list in braces, a URL of either, or a folder in a bucket.

    Raises:
        ValueError: naming the setting, if there is none; or naming the tar file or URL that cannot be read.
    """
    text = str(root)
    if is_url(text):
        return _remote_shards(text, setting)
    if Path(text).is_dir() or not (text.endswith(".tar") or "{" in text):
        return existing_folder(root, setting)
    paths = [Path(name) for name in _expand(text, setting)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        count = plural(len(paths), "tar file")
        raise ValueError(f"{setting}: {root} means {count}, but there is no {_some_of(missing)}")
    return Shards(Path(text), tuple(map(Tar, paths)), read_card(paths[0].parent))


def _split_in(names: Sequence[str]) -> Split | None:
    for part in reversed(names):
        for word in re.findall("[a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def _remote_shards(text: str, setting: str) -> Shards:
    check_no_password(text, setting)
    if is_http(text) and not text.endswith(".tar"):
        raise ValueError(f"{setting}: {text}: expected a list such as {{0000..0009}}.tar at its end")
    urls = list(_expand(text, setting)) if text.endswith(".tar") else bucket_tars(text)
    if not urls:
        raise ValueError(f"{setting}: {text}: there are no tar files")
    tars = remote_tars(urls)
    try:
        data = read_url(beside(urls[0], CARD), MAX_CARD_BYTES)
    except MissingUrlError:
        data = b"{}"
    card = _parse_card(beside(urls[0], CARD), data)
    if not text.endswith(".tar"):
        _require_listed(beside(urls[0], CARD), card, [url.rpartition("/")[2] for url in urls])
    return Shards(text, tars, card)


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
    if format == "auto" and not (root / CARD).is_file() and has_images(root):
        return None
    tars = [root / name for name in list_images(root, suffixes={".tar"}).names]
    if not tars and format == "shards":
        raise ValueError(f"{root}: expected tar files with pairs such as key.jpg and key.json, found no tar file")
    card = read_card(root)
    _require_listed(f"{root / CARD}", card, [tar.relative_to(root).as_posix() for tar in tars])
    return Shards(root, tuple(map(Tar, tars)), card) if tars else None


def read_card(folder: Path) -> dict[str, Any]:
    """What CARD in a folder says; nothing if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / CARD
    if not path.is_file():
        return {}
    return _as_card(str(path), read_json(path, "what the tar files beside it have"))


def _parse_card(name: str, data: bytes) -> dict[str, Any]:
    try:
        card = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not valid JSON: {error}; expected what the tar files beside it have") from error
    return _as_card(name, card)


def _as_card(name: str, card: Any) -> dict[str, Any]:
    if not isinstance(card, dict):
        raise ValueError(f"{name}: expected a JSON object with kind, and class_names, categories or attribute_names")
    return card


def _require_listed(name: str, card: Mapping[str, Any], tars: Sequence[str]) -> None:
    """Raise a ValueError if a card lists a tar file that is not in its folder."""
    listed = card.get("tars", [])
    if not isinstance(listed, list):
        raise ValueError(f"{name}: expected a list of names for tars")
    if missing := sorted(set(map(str, listed)) - set(tars)):
        raise ValueError(f"{name}: {plural(len(listed), 'tar file')}, but there is no {_some_of(missing)}")


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
