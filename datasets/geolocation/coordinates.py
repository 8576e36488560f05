"""Photos and their coordinates; `csv_file.py`, `exif.py` and `shards.py` read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.sphere import Floats
from datasets.splits import split_named
from datasets.stores import ImageStore, Rows, join_images
from datasets.types import Split


@dataclass(frozen=True)
class Photos:
    """Photos, their coordinates and other columns.

    Attributes:
        images: N images.
        lat_deg: (N,) in [-90, 90].
        lng_deg: (N,) in [-180, 180].
        splits: (N,) train, val, test or "" for photos of none; None if the data have none.
        authors: (N,); None if the data have none.
        warnings: one line for each kind of photo that was left out.
        left_out: names of photos without coordinates.
    """

    images: ImageStore
    lat_deg: Floats
    lng_deg: Floats
    splits: NDArray[np.str_] | None = None
    authors: NDArray[np.str_] | None = None
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lat_deg)

    def select(self, rows: Rows) -> Photos:
        """The photos of these rows, in that order, without the warnings."""
        splits = None if self.splits is None else self.splits[rows]
        authors = None if self.authors is None else self.authors[rows]
        return Photos(self.images.select(rows), self.lat_deg[rows], self.lng_deg[rows], splits, authors)


def join_photos(parts: Mapping[Split, Photos]) -> Photos:
    """The photos of a list for each split; a column of splits in one is ignored."""
    photos = list(parts.values())
    authors = [part.authors for part in photos if part.authors is not None]
    return Photos(
        join_images([part.images for part in photos]),
        np.concatenate([part.lat_deg for part in photos]),
        np.concatenate([part.lng_deg for part in photos]),
        np.repeat(list(parts), list(map(len, photos))),
        np.concatenate(authors) if len(authors) == len(photos) else None,
        [line for part in photos for line in part.warnings],
        [name for part in photos for name in part.left_out],
    )


def check_coordinates(path: Path | str, lat_deg: Floats, lng_deg: Floats, name: Callable[[int], str]) -> None:
    """Raise a ValueError if coordinates are out of range, with the first such photo and a likely cause."""
    bad_lat, bad_lng = ~(np.abs(lat_deg) <= 90), ~(np.abs(lng_deg) <= 180)  # NaN is bad too
    bad = np.flatnonzero(bad_lat | bad_lng)
    if not len(bad):
        return
    row = int(bad[0])
    is_swapped = bool(bad_lat.any()) and bool((np.abs(lng_deg) <= 90).all()) and bool((np.abs(lat_deg) <= 180).all())
    hint = (
        "; all longitudes are in the range of latitudes, so the two columns look swapped"
        if is_swapped
        else "; longitudes from 0 to 360 must be given as -180 to 180"
        if not bad_lat.any() and bool((lng_deg >= 0).all())
        else ""
    )
    raise ValueError(
        f"{path}: {len(bad)} of {len(lat_deg)} photos have coordinates out of range; the first, {name(row)}, has "
        f"latitude {lat_deg[row]:g} (expected -90 to 90) and longitude {lng_deg[row]:g} (expected -180 to 180){hint}"
    )


def named_splits(path: Path | str, words: Sequence[str] | None) -> tuple[NDArray[np.str_] | None, str]:
    """The split of each photo ("" for none), and a warning if no word names one, so that there are none."""
    if words is None:
        return None, ""
    named = {word: split_named(word) or "" for word in set(words)}
    if not any(named.values()):
        return None, f"{path}: its splits have names of none ({', '.join(sorted(named)[:3])}); it is passed over"
    return np.array([named[word] for word in words]), ""
