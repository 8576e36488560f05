"""Photos with a place each, split so that no place is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.groups import groups_by_name, groups_by_place, validation_rows
from datasets.places import Photos
from datasets.sphere import Floats
from datasets.stores import ImageStore, Rows, StoredExamples
from datasets.types import Place

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


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
    photos: Photos, *, val_share: float, group_by: Literal["place", "author"], group_km: float
) -> dict[Split, GeotaggedPhotos]:
    """The photos of each split: the data's own, or where they have none, ours, which keeps groups together.

    Args:
        photos: all.
        val_share: of the photos, where the split is ours; 1 leaves none for training.
        group_by: what is never on both sides: photos near each other, or photos of one author.
        group_km: how near.

    Returns:
        Those of the splits that have photos.

    Raises:
        ValueError: if the photos cannot be split, or the data name no authors.
    """
    warnings = list(photos.warnings)
    if photos.splits is not None:
        rows = {name: photos.splits == name for name in SPLITS}
        others = ~np.any(list(rows.values()), 0)
        if others.any():
            names = ", ".join(np.unique(photos.splits[others])[:3].tolist())
            warnings.append(f"{others.sum()} photos are of neither train nor val ({names}); left out")
    else:
        is_val = validation_rows(_groups(photos, group_by, group_km), val_share)
        rows = {"train": ~is_val, "val": is_val}
    splits: dict[Split, GeotaggedPhotos] = {}
    for name in SPLITS:
        if rows[name].any():
            some = photos.select(rows[name])
            splits[name] = GeotaggedPhotos(some.images, some.lat_deg, some.lng_deg, warnings)
    return splits


def _groups(photos: Photos, group_by: Literal["place", "author"], group_km: float) -> NDArray[np.int64]:
    if group_by == "place":
        return groups_by_place(photos.lat_deg, photos.lng_deg, group_km)
    if photos.authors is None:
        raise ValueError("data.group_by: the data have no column AUTHOR; use place")
    return groups_by_name(photos.authors.tolist())
