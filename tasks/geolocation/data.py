"""The photos of each split, as the settings name them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.geolocation.places import open_places
from datasets.sample.geolocation import sample_root
from datasets.shards.find import open_root
from datasets.splits import Holdout, SplitData
from tasks.geolocation.cells import Partitioning
from tasks.geolocation.config import GeolocationConfig


def open_data(config: GeolocationConfig) -> SplitData[GeotaggedPhotos]:
    """The photos of each split.

    Raises:
        ValueError: if they cannot be read or divided.
    """
    data = config.data
    return open_places(
        sample_root() if data.root is None else open_root(data.root),
        format=data.format,
        csv=data.csv,
        images=data.images,
        columns=data.columns,
        holdout=Holdout.from_settings(data.val_fraction, data.fold),
        group_by=data.group_by,
        group_km=data.group_km,
    )


def drop_outside(data: SplitData[GeotaggedPhotos], partitionings: Sequence[Partitioning]) -> SplitData[GeotaggedPhotos]:
    """The photos without training photos outside all cells, which are counted in the warnings."""

    def inside() -> GeotaggedPhotos:
        photos = data["train"]
        is_inside = np.any([p.find(photos.lat_deg, photos.lng_deg) >= 0 for p in partitionings], 0)
        kept = photos.select(is_inside)
        if not is_inside.all():
            num_outside = len(photos) - len(kept)
            kept.warnings.append(f"{num_outside} of {len(photos)} training photos are in no kept cell and are left out")
        return kept

    readers = {split: partial(data.__getitem__, split) for split in data.names}
    return SplitData(data.root, data.found, readers | ({"train": inside} if "train" in data else {}))
