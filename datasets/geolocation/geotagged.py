"""Geotagged photos, split so that training and validation photos are far apart or by different authors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.coordinates import Photos
from datasets.geolocation.groups import cell_names, near_rows
from datasets.geolocation.sphere import Floats
from datasets.splits import SPLITS, Holdout, SplitData, validation_rows
from datasets.stores import ImageStore, Rows, StoredExamples
from datasets.types import Place, Split
from datasets.words import plural

# Side of a grid cell / group_km. Of evenly spread photos, about 4 val_fraction / 10 (4 % at 0.1) are within group_km of
# a validation cell and left out. Larger cells lose fewer photos, but are fewer, so the fraction of validation photos is
# further from val_fraction.
CELL_KM_PER_GROUP_KM = 10
REMEDIES = "a smaller data.group_km, data.group_by author or a column 'split' helps"


class GeotaggedPhotos(StoredExamples[Place]):
    """Photos and their coordinates.

    Attributes:
        lat_deg: (N,) latitudes.
        lng_deg: (N,) longitudes.
    """

    def __init__(self, images: ImageStore, lat_deg: Floats, lng_deg: Floats, warnings: Sequence[str] = ()) -> None:
        """Args: images: N; lat_deg, lng_deg: of each; warnings: of the reader."""
        super().__init__(images, warnings)
        self.lat_deg, self.lng_deg = lat_deg, lng_deg

    def truth(self, index: int) -> Place:
        """Where a photo was taken, without opening it."""
        return Place(float(self.lat_deg[index]), float(self.lng_deg[index]))

    def select(self, rows: Rows) -> GeotaggedPhotos:
        """The photos of these rows, in that order."""
        selected = GeotaggedPhotos(self.images.select(rows), self.lat_deg[rows], self.lng_deg[rows], self.warnings)
        selected.decoding = self.decoding
        return selected


def split_photos(
    photos: Photos,
    holdout: Holdout | None,
    *,
    root: Path | str,
    found: str,
    group_by: Literal["place", "author"],
    group_km: float,
) -> SplitData[GeotaggedPhotos]:
    """The photos of each split; where there is no validation part one is held out by a hash, as in `splits.py`.

    By place it is a spatially blocked split with a buffer (Roberts et al. 2017, doi:10.1111/ecog.02881; Valavi et al.
    2019, doi:10.1111/2041-210X.13107): whole cells of a fixed grid are for validation, and training photos within
    `group_km` of a validation photo are left out and counted in the warnings.

    Args:
        photos: all photos.
        holdout: which cells or authors; None to hold out none.
        root: where the photos are, for messages.
        found: what they are, for the user.
        group_by: what training and validation never share: a place or an author.
        group_km: width of the buffer between them, by place; cells are 10 times as wide, so it also changes which
            photos are for validation.

    Raises:
        ValueError: if all photos are in one cell or by one author, the buffer leaves none for training, or the data
            have no authors.
    """
    warnings = list(photos.warnings)
    if photos.splits is None:
        rows: dict[Split, NDArray[np.int64]] = {"train": np.arange(len(photos))}
    else:
        rows = {split: np.flatnonzero(photos.splits == split) for split in SPLITS}
        rows = {split: found_rows for split, found_rows in rows.items() if len(found_rows)}
        num_left_out = len(photos) - sum(map(len, rows.values()))
        if num_left_out:
            warnings.append(f"{root}: {plural(num_left_out, 'photo')} in no split left out")
    if holdout is not None and "train" in rows and ("val" not in rows or holdout.is_fold):
        found += f"; {'folds' if 'val' in rows else 'a part'} held out for validation by {group_by}"
        pool = np.sort(np.concatenate([rows[split] for split in ("train", "val") if split in rows]))
        masks, lines = _hold_out(photos.select(pool), holdout, root, group_by, group_km)
        rows |= {split: pool[mask] for split, mask in masks.items()}
        warnings += lines

    def read(split: Split) -> GeotaggedPhotos:
        selected = photos.select(rows[split])
        return GeotaggedPhotos(selected.images, selected.lat_deg, selected.lng_deg, warnings)

    return SplitData(root, found, {split: partial(read, split) for split in rows if len(rows[split])})


def _hold_out(
    photos: Photos, holdout: Holdout, root: Path | str, group_by: Literal["place", "author"], group_km: float
) -> tuple[dict[Split, NDArray[np.bool_]], list[str]]:
    """A mask for train and val, and warnings."""
    try:
        if group_by == "place":
            rows, warnings = _split_by_place(photos, holdout, group_km)
        else:
            rows, warnings = _split_by_author(photos, holdout), []
    except ValueError as error:
        raise ValueError(f"{root}: {error}") from error
    fraction = holdout.stop - holdout.start
    if not fraction / 2 <= rows["val"].mean() <= 2 * fraction:
        groups = "places" if group_by == "place" else "authors"
        asked = "the size of a fold" if holdout.is_fold else f"data.val_fraction {fraction:g}"
        warnings.append(
            f"{rows['val'].sum()} of {len(photos)} photos are for validation, far from {asked}, because few {groups} "
            "have many of the photos"
        )
    return rows, warnings


def _split_by_place(
    photos: Photos, holdout: Holdout, group_km: float
) -> tuple[dict[Split, NDArray[np.bool_]], list[str]]:
    """A mask for each split, and warnings."""
    cell_km = CELL_KM_PER_GROUP_KM * group_km
    cells = cell_names(photos.lat_deg, photos.lng_deg, cell_km)
    if not _is_whole(holdout) and len(set(cells)) < 2:
        raise ValueError(
            f"{plural(len(photos), 'photo')} cannot be split by place: all are in one cell of {cell_km:g} km, "
            f"{CELL_KM_PER_GROUP_KM} times data.group_km; {REMEDIES}"
        )
    is_val = validation_rows(cells, holdout)
    is_near = near_rows(photos.lat_deg, photos.lng_deg, is_val, group_km)
    rows: dict[Split, NDArray[np.bool_]] = {"train": ~is_val & ~is_near, "val": is_val}
    num_near, num_train = int(is_near.sum()), int((~is_val).sum())
    if not num_near:
        return rows, []
    line = f"{num_near} of {num_train} training photos are within {group_km:g} km (data.group_km) of a validation photo"
    if num_near == num_train:
        raise ValueError(f"{line}, which leaves none; {REMEDIES}")
    return rows, [f"{line}; left out" + (f"; {REMEDIES}" if num_near > num_train / 2 else "")]


def _split_by_author(photos: Photos, holdout: Holdout) -> dict[Split, NDArray[np.bool_]]:
    if photos.authors is None:
        raise ValueError("data.group_by: the data have no column of authors; use place")
    authors = photos.authors.tolist()
    if not _is_whole(holdout) and len(set(authors)) < 2:
        raise ValueError(
            f"{plural(len(photos), 'photo')} cannot be split by author: all are by {authors[0]!r}; data.group_by place "
            "or a column 'split' helps"
        )
    is_val = validation_rows(authors, holdout)
    return {"train": ~is_val, "val": is_val}


def _is_whole(holdout: Holdout) -> bool:
    """Whether all photos are for validation."""
    return (holdout.start, holdout.stop) == (0, 1)
