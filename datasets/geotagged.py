"""Photos with a place each, split so that training and validation photos are far apart, or by different authors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.groups import cell_names, near_rows, validation_rows
from datasets.places import Photos
from datasets.sphere import Floats
from datasets.stores import ImageStore, Rows, StoredExamples
from datasets.types import Place, Split

SPLITS: tuple[Split, ...] = ("train", "val")
# The side of a grid cell / group_km. Of evenly spread photos, those nearer than group_km to a validation cell, which
# are left out, are about 4 val_fraction / 10: 4 % for val_fraction 0.1. Larger cells lose fewer, but there are fewer of
# them, and the fraction of the photos in them is further from val_fraction.
CELL_PER_GROUP = 10
WAYS_OUT = "a smaller data.group_km, data.group_by author or a column 'split' helps"


class GeotaggedPhotos(StoredExamples[Place]):
    """Photos and where they were taken.

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
        """Some of the photos, in that order."""
        some = GeotaggedPhotos(self.images.select(rows), self.lat_deg[rows], self.lng_deg[rows], self.warnings)
        some.min_side_px = self.min_side_px
        return some


def split_photos(
    photos: Photos, *, val_fraction: float, group_by: Literal["place", "author"], group_km: float
) -> dict[Split, GeotaggedPhotos]:
    """The photos of each split: the data's own, or where they have none, ours, in which added photos move no others.

    By place it is a blocked split with a buffer, as in spatial cross-validation (Roberts et al. 2017,
    doi:10.1111/ecog.02881; Valavi et al. 2019, doi:10.1111/2041-210X.13107): whole cells of a fixed grid are for
    validation, and training photos within `group_km` of a validation photo are left out, counted in the warnings.

    Args:
        photos: all.
        val_fraction: expected share of the cells or authors, where the split is ours; 1 leaves none for training.
        group_by: what keeps the sides apart: the place, or the author.
        group_km: the least distance between the sides, by place; cells are 10 times as wide, so it decides which
            photos are for validation, too.

    Returns:
        Those of the splits that have photos.

    Raises:
        ValueError: if all photos are of one cell or author, the buffer leaves none for training, or the data name no
            authors.
    """
    warnings = list(photos.warnings)
    if photos.splits is not None:
        rows = {name: photos.splits == name for name in SPLITS}
        others = ~np.any(list(rows.values()), 0)
        if others.any():
            names = ", ".join(np.unique(photos.splits[others])[:3].tolist())
            warnings.append(f"{others.sum()} photos are of neither train nor val ({names}); left out")
    elif group_by == "place":
        rows, lines = _split_by_place(photos, val_fraction, group_km)
        warnings += lines
    else:
        rows = _split_by_author(photos, val_fraction)
    if photos.splits is None and not val_fraction / 2 <= rows["val"].mean() <= 2 * val_fraction:
        groups = "places" if group_by == "place" else "authors"
        warnings.append(
            f"{rows['val'].sum()} of {len(photos)} photos are for validation, far from data.val_fraction "
            f"{val_fraction:g}, "
            f"because few {groups} have many of the photos"
        )
    splits: dict[Split, GeotaggedPhotos] = {}
    for name in SPLITS:
        if rows[name].any():
            some = photos.select(rows[name])
            splits[name] = GeotaggedPhotos(some.images, some.lat_deg, some.lng_deg, warnings)
    return splits


def _split_by_place(
    photos: Photos, val_fraction: float, group_km: float
) -> tuple[dict[Split, NDArray[np.bool_]], list[str]]:
    """The rows of each split, and what to warn of."""
    cell_km = CELL_PER_GROUP * group_km
    cells = cell_names(photos.lat_deg, photos.lng_deg, cell_km)
    if val_fraction < 1 and len(set(cells)) < 2:
        raise ValueError(
            f"the {len(photos)} photos cannot be split by place: all are in one cell of {cell_km:g} km, "
            f"{CELL_PER_GROUP} times data.group_km; {WAYS_OUT}"
        )
    is_val = validation_rows(cells, val_fraction)
    is_near = near_rows(photos.lat_deg, photos.lng_deg, is_val, group_km)
    rows: dict[Split, NDArray[np.bool_]] = {"train": ~is_val & ~is_near, "val": is_val}
    num_near, num_train = int(is_near.sum()), int((~is_val).sum())
    if not num_near:
        return rows, []
    line = f"{num_near} of {num_train} training photos are within {group_km:g} km (data.group_km) of a validation photo"
    if num_near == num_train:
        raise ValueError(f"{line}, which leaves none; {WAYS_OUT}")
    return rows, [f"{line}; left out" + (f"; {WAYS_OUT}" if num_near > num_train / 2 else "")]


def _split_by_author(photos: Photos, val_fraction: float) -> dict[Split, NDArray[np.bool_]]:
    if photos.authors is None:
        raise ValueError("data.group_by: the data have no column AUTHOR; use place")
    authors = photos.authors.tolist()
    if val_fraction < 1 and len(set(authors)) < 2:
        raise ValueError(
            f"the {len(photos)} photos cannot be split by author: all are by {authors[0]!r}; data.group_by place or a "
            "column 'split' helps"
        )
    is_val = validation_rows(authors, val_fraction)
    return {"train": ~is_val, "val": is_val}
