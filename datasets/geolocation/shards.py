"""Photos in tar files: `key.jpg` beside `key.json` with its coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.coordinates import Photos, check_coordinates, named_splits
from datasets.geolocation.sphere import Floats
from datasets.shards.find import Shards
from datasets.shards.records import TarTexts, read_records
from datasets.words import plural

EXPECTED = "a JSON record with numbers for lat and lon"
# What a record has -> its keys in a JSON record, in lower case.
RECORD_KEYS = {
    "lat": ("lat", "latitude"),
    "lng": ("lon", "lng", "long", "longitude"),
    "split": ("split",),
    "author": ("author",),
}


class _Places(NamedTuple):
    """The places of a tar file: degrees, and the words for split and author where all records have them."""

    lat_deg: Floats
    lng_deg: Floats
    words: Mapping[str, NDArray[np.str_]]


def read_place_shards(shards: Shards) -> tuple[Photos, str]:
    """Photos in tar files.

    A record has `lat` (or `latitude`) and `lon` (`lng`, `longitude`), optionally `split` and `author`. Without `split`
    the names of the tar files may be those of splits, such as `train-0000.tar`.

    Returns:
        The photos, and what they are, for the user.

    Raises:
        ValueError: naming the shard: not a tar file, an unreadable record, coordinates out of range, no photos.
    """
    records = read_records(shards, "json", _places)
    lat_deg, lng_deg = (np.concatenate(values) for values in list(zip(*records.values, strict=True))[:2])
    check_coordinates(shards.root, lat_deg, lng_deg, records.images.name)
    words = {
        key: np.concatenate([places.words[key] for places in records.values])
        for key in ("split", "author")
        if all(key in places.words for places in records.values)
    }
    if "split" not in words:
        split_of = {tar: split for split, part in shards.by_split().items() for tar in part.tars}
        words["split"] = np.array([split_of.get(tar, "") for tar in shards.tars], np.str_)[records.images.shard_ids]
    splits, line = named_splits(shards.root, words["split"].tolist())
    warnings = [*records.warnings, line] if line else records.warnings
    found = f"{plural(len(lat_deg), 'photo')} in {plural(len(shards.tars), 'tar file')} of WebDataset"
    return Photos(records.images, lat_deg, lng_deg, splits, words.get("author"), warnings), found


def _places(texts: TarTexts) -> _Places:
    records = [_supported(name, record) for name, record in zip(texts.names, texts.json_objects(EXPECTED), strict=True)]
    lat_deg, lng_deg = (np.array([record[column] for record in records], float) for column in ("lat", "lng"))
    words = {
        key: np.array([str(record[key]) for record in records], np.str_)
        for key in ("split", "author")
        if all(key in record for record in records)
    }
    return _Places(lat_deg, lng_deg, words)


def _supported(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The supported values of a record, by column."""
    content = {str(key).lower(): value for key, value in record.items()}
    found = {
        column: next(content[key] for key in keys if key in content)
        for column, keys in RECORD_KEYS.items()
        if any(key in content for key in keys)
    }
    try:
        found |= {column: float(found[column]) for column in ("lat", "lng")}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected {EXPECTED}, got the keys {', '.join(content)[:200]!r}") from error
    return found
