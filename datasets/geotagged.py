"""Photos with a place each, split so that no place is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from datasets.groups import groups_by_name, groups_by_place, validation_rows
from datasets.places import Photos
from datasets.sphere import Floats
from datasets.stores import ImageStore, Rows, StoredExamples
from datasets.types import Place

Split = Literal["train", "val"]


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
    photos: Photos, split: Split, *, val_share: float, group_by: Literal["place", "author"], group_km: float
) -> GeotaggedPhotos:
    """The photos of a split: the data's own, or where they have none, ours, which keeps groups together.

    Args:
        photos: all.
        split: which.
        val_share: of the photos, where the split is ours; 1 leaves none for training.
        group_by: what is never on both sides: photos near each other, or photos of one author.
        group_km: how near.

    Raises:
        ValueError: if the split is empty, or the data name no authors.
    """
    warnings = list(photos.warnings)
    if photos.splits is not None:
        rows = photos.splits == split
        others = sorted(set(photos.splits.tolist()) - {"train", "val"})
        if others and split == "train":
            number = int((~np.isin(photos.splits, ["train", "val"])).sum())
            warnings.append(f"{number} photos are of neither train nor val ({', '.join(others[:3])}); left out")
        if not rows.any():
            raise ValueError(f"no photo has split {split!r}; the column has {', '.join(map(repr, others)) or 'others'}")
    else:
        if group_by == "author":
            if photos.authors is None:
                raise ValueError("data.group_by: the data have no column AUTHOR; use place")
            groups = groups_by_name(photos.authors.tolist())
        else:
            groups = groups_by_place(photos.lat_deg, photos.lng_deg, group_km)
        is_val = validation_rows(groups, val_share)
        rows = is_val if split == "val" else ~is_val
        if not rows.any():
            raise ValueError(f"data.val_share: {val_share:g} leaves no photo for {split}")
    kept = photos.select(rows)
    return GeotaggedPhotos(kept.images, kept.lat_deg, kept.lng_deg, warnings)
