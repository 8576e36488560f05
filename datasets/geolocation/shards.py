"""Photos in tar files (WebDataset's layout), read in any order by their offsets.

So they are shuffled like files: the order is a function of seed and epoch, and a run resumes exactly, which a stream of
shards cannot do.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.coordinates import Photos, check_coordinates, named_splits
from datasets.images.read import IMAGE_SUFFIXES, Decoding, decode_image
from datasets.splits import split_named
from datasets.stores import Rows
from datasets.types import Image
from datasets.words import plural

Member = tuple[str, int, int]  # name, offset and size in bytes
# What a record has -> its keys in a JSON record, in lower case.
RECORD_KEYS = {
    "lat": ("lat", "latitude"),
    "lng": ("lon", "lng", "long", "longitude"),
    "split": ("split",),
    "author": ("author",),
}


class ShardedImages:
    """Members of tar files, read in any order by their offsets: an `ImageStore`."""

    def __init__(
        self, shards: Sequence[Path], shard_ids: NDArray[np.int64], spans: NDArray[np.int64], names: NDArray[np.bytes_]
    ) -> None:
        """Members of tar files.

        Args:
            shards: tar files, not compressed.
            shard_ids: (N,), indices into `shards`.
            spans: (N, 2), offset and size in bytes of each member.
            names: (N,), of the members.
        """
        self._shards, self._shard_ids, self._spans, self._names = list(shards), shard_ids, spans, names

    def __len__(self) -> int:
        return len(self._spans)

    def id(self, row: int) -> str:
        """The shard's path and the member's name."""
        return os.path.join(self._shards[self._shard_ids[row]], os.fsdecode(self._names[row]))

    def read(self, row: int, decoding: Decoding) -> Image:
        """The image, decoded as told.

        Raises:
            UnreadableImageError: if the member is not an image.
        """
        offset, size = self._spans[row].tolist()
        with self._shards[self._shard_ids[row]].open("rb") as file:
            file.seek(offset)
            return decode_image(file.read(size), Path(self.id(row)), decoding)

    def select(self, rows: Rows) -> ShardedImages:
        """The members of these rows, in that order."""
        return ShardedImages(self._shards, self._shard_ids[rows], self._spans[rows], self._names[rows])


def read_shards(root: Path) -> tuple[Photos, str]:
    """Photos in the tar files below a folder, in WebDataset's layout: `key.jpg` beside `key.json` with its coordinates.

    A record has `lat` (or `latitude`) and `lon` (`lng`, `longitude`), optionally `split` and `author`. Without `split`
    the names of the tar files may be those of splits, such as `train-0000.tar`.

    Returns:
        The photos, and what they are, for the user.

    Raises:
        ValueError: naming the shard: not a tar file, an unreadable record, coordinates out of range, no photos.
    """
    shards = sorted(root.rglob("*.tar"))
    names: list[str] = []
    shard_ids: list[int] = []
    spans: list[tuple[int, int]] = []
    records: list[dict[str, Any]] = []
    num_unpaired = 0
    for shard_id, shard in enumerate(shards):
        images_by_key, records_by_key = _members_by_key(shard)
        num_unpaired += len(images_by_key.keys() ^ records_by_key.keys())
        with shard.open("rb") as file:
            for key in filter(records_by_key.__contains__, images_by_key):
                record_name, record_offset, record_size = records_by_key[key]
                file.seek(record_offset)
                records.append(_read_record(f"{shard}/{record_name}", file.read(record_size)))
                name, offset, size = images_by_key[key]
                names.append(name)
                spans.append((offset, size))
                shard_ids.append(shard_id)
    if not names:
        raise ValueError(
            f"{root}: expected tar files with pairs of key.jpg and key.json, found {plural(len(shards), 'tar file')}"
        )
    lat_deg, lng_deg = (np.array([record[column] for record in records], float) for column in ("lat", "lng"))
    check_coordinates(root, lat_deg, lng_deg, names)
    images = ShardedImages(
        shards, np.array(shard_ids), np.array(spans), np.array([os.fsencode(name) for name in names])
    )
    words = {
        key: [str(record[key]) for record in records]
        for key in ("split", "author")
        if all(key in record for record in records)
    }
    if "split" not in words and any(split_named(shard.stem) for shard in shards):
        words["split"] = [shards[shard_id].stem for shard_id in shard_ids]
    splits, line = named_splits(root, words.get("split"))
    warnings = [line] if line else []
    if num_unpaired:
        warnings.append(f"{root}: {plural(num_unpaired, 'member')} not in pairs of key.jpg and key.json left out")
    authors = np.array(words["author"]) if "author" in words else None
    found = f"{plural(len(names), 'photo')} in {plural(len(shards), 'tar file')} of WebDataset"
    return Photos(images, lat_deg, lng_deg, splits, authors, warnings), found


def _members_by_key(shard: Path) -> tuple[dict[str, Member], dict[str, Member]]:
    """Images and records by key, which is the name up to its first dot."""
    images: dict[str, Member] = {}
    records: dict[str, Member] = {}
    for name, offset, size in _members(shard):
        folder, _, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        key = f"{folder}/{stem}"
        if f".{suffix.lower()}" in IMAGE_SUFFIXES:
            images[key] = (name, offset, size)
        elif suffix.lower() == "json":
            records[key] = (name, offset, size)
    return images, records


def _read_record(name: str, data: bytes) -> dict[str, Any]:
    """The supported values of a record, by column."""
    expected = f"{name}: expected a JSON record with numbers for lat and lon"
    try:
        content = {str(key).lower(): value for key, value in json.loads(data).items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(expected) from error
    record = {
        column: next(content[key] for key in keys if key in content)
        for column, keys in RECORD_KEYS.items()
        if any(key in content for key in keys)
    }
    try:
        record |= {column: float(record[column]) for column in ("lat", "lng")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{expected}, got the keys {', '.join(content)[:200]!r}") from error
    return record


def _members(shard: Path) -> Iterator[Member]:
    """Each file in a tar file."""
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.size < 0:  # the next member would be this one again, for ever
                    raise tarfile.TarError(f"{member.name} has {member.size} bytes")
                if member.isfile():
                    yield member.name, member.offset_data, member.size
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{shard}: not a tar file, or a compressed or damaged one ({error})") from error
