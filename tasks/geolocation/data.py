"""The photos of each split, as the settings name them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.coordinates import read_csv, read_exif
from datasets.files import existing_folder
from datasets.geotagged import GeotaggedPhotos, split_photos
from datasets.images import Decoding
from datasets.sample.geolocation import sample_root
from datasets.shards import read_shards
from datasets.types import Split
from tasks.geolocation.cells import Partitioning
from tasks.geolocation.config import GeolocationConfig

Splits = dict[Split, GeotaggedPhotos]


def read_splits(config: GeolocationConfig) -> Splits:
    """The splits that are not empty.

    Raises:
        ValueError: if the photos cannot be read or split.
    """
    data = config.data
    root = sample_root() if data.root is None else existing_folder(data.root)
    if data.name == "exif":
        photos = read_exif(root)
    elif data.name == "shards":
        photos = read_shards(root)
    else:
        max_missing = config.loop.max_unreadable_fraction
        photos = read_csv(root / data.csv, root / data.images, max_missing_fraction=max_missing)
    splits = split_photos(photos, val_fraction=data.val_fraction, group_by=data.group_by, group_km=data.group_km)
    for source in splits.values():
        source.decoding = Decoding(2 * data.input_size, data.pixel_range)  # no crop of a larger photo has more detail
    return splits


def photos_of(splits: Splits, split: Split) -> GeotaggedPhotos:
    """The photos of one split.

    Raises:
        ValueError: if it has none.
    """
    if split not in splits:
        raise ValueError(f"no photo is for {split}: the column 'split', data.val_fraction or the cells leave none")
    return splits[split]


def drop_outside(splits: Splits, partitionings: Sequence[Partitioning]) -> Splits:
    """The splits without training photos outside all cells, which are counted in the warnings."""
    if "train" not in splits:
        return splits
    photos = splits["train"]
    is_inside = np.any([p.find(photos.lat_deg, photos.lng_deg) >= 0 for p in partitionings], 0)
    if not is_inside.any():
        return {name: source for name, source in splits.items() if name != "train"}
    kept = photos.select(is_inside)
    if not is_inside.all():
        num_outside = len(photos) - len(kept)
        kept.warnings.append(f"{num_outside} of {len(photos)} training photos are in no kept cell and are left out")
    return {**splits, "train": kept}
