"""Open a folder of photos with coordinates: look where the coordinates are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from datasets.files import describe_folder
from datasets.geolocation.coordinates import Photos
from datasets.geolocation.csv_file import has_tables, open_csv
from datasets.geolocation.exif import read_exif
from datasets.geolocation.geotagged import GeotaggedPhotos, split_photos
from datasets.geolocation.shards import read_place_shards
from datasets.listing import list_images
from datasets.shards.find import Shards, find_shards
from datasets.splits import Holdout, SplitData

Format = Literal["csv", "exif", "shards"]
EXPECTED = "a CSV file of names and coordinates, tar files of WebDataset, or photos with GPS coordinates"


def open_places(
    root: Path | Shards,
    *,
    format: Literal["auto", Format] = "auto",
    csv: str | None = None,
    images: str | None = None,
    columns: Mapping[str, str] | None = None,
    holdout: Holdout | None = None,
    group_by: Literal["place", "author"] = "place",
    group_km: float = 1.0,
) -> SplitData[GeotaggedPhotos]:
    """The photos of each split.

    Args:
        root: the folder, or tar files.
        format: auto to take the CSV files in it, else tar files below it, else the EXIF data of the photos below it.
        csv: the CSV file, relative to root; None to look for it.
        images: the folder that the names in the CSV file are relative to, relative to root; None to look for it.
        columns: names of columns in the CSV file, see `csv_file.COLUMNS`.
        holdout: which places or authors to hold out, where the data have no validation part.
        group_by: what training and validation never share.
        group_km: see `split_photos`.

    Raises:
        ValueError: naming the file or folder: no places, or faulty ones.
    """
    photos, found = _read(root, format, csv, images, columns or {})
    where = root if isinstance(root, Path) else root.root
    return split_photos(photos, holdout, root=where, found=found, group_by=group_by, group_km=group_km)


def _read(
    root: Path | Shards, format: str, csv: str | None, images: str | None, columns: Mapping[str, str]
) -> tuple[Photos, str]:
    if csv is None and (shards := find_shards(root, format)) is not None:
        return read_place_shards(shards)
    if isinstance(root, Shards):
        raise ValueError(f"{root.root}: tar files, which have their places in them; leave data.csv out")
    if not root.is_dir():
        raise ValueError(
            f"{root}: {'is a file' if root.is_file() else 'no such folder'}; expected a folder with {EXPECTED}"
        )
    if format == "csv" or (format == "auto" and csv is not None):
        path = None if csv is None else root / csv
        if not (has_tables(root) if path is None else path.is_file()):
            name = "a CSV file" if path is None else str(path)
            raise ValueError(f"{root}: no such file as {name}; data.csv names it; {describe_folder(root)}")
        return open_csv(root, path, images=images, columns=columns)
    if format == "auto":
        if has_tables(root):
            return open_csv(root, None, images=images, columns=columns)
        if not list_images(root).names:
            raise ValueError(f"{root}: no places found; expected {EXPECTED}; {describe_folder(root)}")
        return read_exif(root)
    return read_exif(root)
