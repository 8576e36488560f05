"""Geotagged photos, split so that training and validation photos are far apart or by different authors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.coordinates import Photos
from datasets.groups import cell_names, near_rows
from datasets.sphere import Floats
from datasets.splits import Holdout, validation_rows
from datasets.stores import ImageStore, Rows, StoredExamples
from datasets.types import Place, Split

SPLITS: tuple[Split, ...] = ("train", "val")
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
    photos: Photos, *, val_fraction: float, group_by: Literal["place", "author"], group_km: float
) -> dict[Split, GeotaggedPhotos]:
    """The photos of each split: the data's own, else by a hash, so that adding photos does not move any between splits.

    By place it is a spatially blocked split with a buffer (Roberts et al. 2017, doi:10.1111/ecog.02881; Valavi et al.
    2019, doi:10.1111/2041-210X.13107): whole cells of a fixed grid are for validation, and training photos within
    `group_km` of a validation photo are left out and counted in the warnings.

    Args:
        photos: all photos.
        val_fraction: expected fraction of the cells or authors, if the data have no split; 1 leaves none for training.
        group_by: what the two splits never share: a place or an author.
        group_km: width of the buffer between the splits, by place; cells are 10 times as wide, so it also changes
            which photos are for validation.

    Returns:
        The splits that are not empty.

    Raises:
        ValueError: if all photos are in one cell or by one author, the buffer leaves none for training, or the data
            have no authors.
    """
    warnings = list(photos.warnings)
    if photos.splits is not None:
        rows = {name: photos.splits == name for name in SPLITS}
        in_neither = ~np.any(list(rows.values()), 0)
        if in_neither.any():
            names = ", ".join(np.unique(photos.splits[in_neither])[:3].tolist())
            warnings.append(f"{in_neither.sum()} photos are in neither train nor val ({names}); left out")
    elif group_by == "place":
        rows, lines = _split_by_place(photos, val_fraction, group_km)
        warnings += lines
    else:
        rows = _split_by_author(photos, val_fraction)
    if photos.splits is None and not val_fraction / 2 <= rows["val"].mean() <= 2 * val_fraction:
        groups = "places" if group_by == "place" else "authors"
        warnings.append(
            f"{rows['val'].sum()} of {len(photos)} photos are for validation, far from data.val_fraction "
            f"{val_fraction:g}, because few {groups} have many of the photos"
        )
    splits: dict[Split, GeotaggedPhotos] = {}
    for name in SPLITS:
        if rows[name].any():
            selected = photos.select(rows[name])
            splits[name] = GeotaggedPhotos(selected.images, selected.lat_deg, selected.lng_deg, warnings)
    return splits


def _split_by_place(
    photos: Photos, val_fraction: float, group_km: float
) -> tuple[dict[Split, NDArray[np.bool_]], list[str]]:
    """A mask for each split, and warnings."""
    cell_km = CELL_KM_PER_GROUP_KM * group_km
    cells = cell_names(photos.lat_deg, photos.lng_deg, cell_km)
    if val_fraction < 1 and len(set(cells)) < 2:
        raise ValueError(
            f"the {len(photos)} photos cannot be split by place: all are in one cell of {cell_km:g} km, "
            f"{CELL_KM_PER_GROUP_KM} times data.group_km; {REMEDIES}"
        )
    is_val = validation_rows(cells, Holdout(0, val_fraction))
    is_near = near_rows(photos.lat_deg, photos.lng_deg, is_val, group_km)
    rows: dict[Split, NDArray[np.bool_]] = {"train": ~is_val & ~is_near, "val": is_val}
    num_near, num_train = int(is_near.sum()), int((~is_val).sum())
    if not num_near:
        return rows, []
    line = f"{num_near} of {num_train} training photos are within {group_km:g} km (data.group_km) of a validation photo"
    if num_near == num_train:
        raise ValueError(f"{line}, which leaves none; {REMEDIES}")
    return rows, [f"{line}; left out" + (f"; {REMEDIES}" if num_near > num_train / 2 else "")]


def _split_by_author(photos: Photos, val_fraction: float) -> dict[Split, NDArray[np.bool_]]:
    if photos.authors is None:
        raise ValueError("data.group_by: the data have no column AUTHOR; use place")
    authors = photos.authors.tolist()
    if val_fraction < 1 and len(set(authors)) < 2:
        raise ValueError(
            f"the {len(photos)} photos cannot be split by author: all are by {authors[0]!r}; data.group_by place or a "
            "column 'split' helps"
        )
    is_val = validation_rows(authors, Holdout(0, val_fraction))
    return {"train": ~is_val, "val": is_val}
