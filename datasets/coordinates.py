"""Readers of photos and their coordinates from a CSV file or from EXIF data (`shards.py`: from tar files)."""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import GPS, IFD

from datasets.files import missing_files, path_inside
from datasets.images import IMAGE_SUFFIXES
from datasets.sphere import Floats
from datasets.stores import ImageFiles, ImageStore, Rows

ID, LAT, LNG, SPLIT, AUTHOR = "IMG_ID", "LAT", "LON", "SPLIT", "AUTHOR"
REQUIRED = (ID, LAT, LNG)


@dataclass(frozen=True)
class Photos:
    """Photos, their coordinates and other columns.

    Attributes:
        images: N images.
        lat_deg: (N,) in [-90, 90].
        lng_deg: (N,) in [-180, 180].
        splits: (N,) names of splits; None if the data have none.
        authors: (N,); None if the data have none.
        warnings: one line for each kind of photo that was left out.
    """

    images: ImageStore
    lat_deg: Floats
    lng_deg: Floats
    splits: NDArray[np.str_] | None = None
    authors: NDArray[np.str_] | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lat_deg)

    def select(self, rows: Rows) -> Photos:
        """The photos of these rows, in that order, without the warnings."""
        splits = None if self.splits is None else self.splits[rows]
        authors = None if self.authors is None else self.authors[rows]
        return Photos(self.images.select(rows), self.lat_deg[rows], self.lng_deg[rows], splits, authors)


def read_csv(path: Path, images: Path, *, max_missing_fraction: float) -> Photos:
    """Photos of a CSV file like those of MP-16 and Im2GPS3k: IMG_ID, LAT, LON, optionally `split` and AUTHOR.

    Args:
        path: the file; its first line names the columns, in any order; further columns are ignored.
        images: the folder that IMG_ID is relative to.
        max_missing_fraction: largest fraction of missing images; they are left out and counted.

    Raises:
        ValueError: naming file and line: wrong columns, no numbers, coordinates out of range, missing images.
    """
    try:
        columns = _read_columns(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    lat_deg, lng_deg = np.array(columns[LAT]), np.array(columns[LNG])
    check_coordinates(path, lat_deg, lng_deg, columns[ID])
    if len(set(columns[ID])) < len(columns[ID]):
        raise ValueError(f"{path}: an {ID} occurs twice")
    photos = Photos(
        ImageFiles(images, columns[ID]), lat_deg, lng_deg, text_column(columns, SPLIT), text_column(columns, AUTHOR)
    )
    missing = missing_files([path_inside(images, name) for name in columns[ID]])
    if not missing:
        return photos
    line = f"{len(missing)} of {len(photos)} images of {path} are missing, first {missing[0]}"
    if len(missing) > max_missing_fraction * len(photos):
        raise ValueError(
            f"{line}; data.images names their folder, loop.max_unreadable_fraction how many may be missing"
        )
    exists = ~np.isin(columns[ID], [os.path.relpath(file, images) for file in missing])
    return replace(photos.select(exists), warnings=[f"{line}; they are left out"])


def read_exif(root: Path) -> Photos:
    """All photos below a folder that have GPS coordinates in their EXIF data.

    Raises:
        ValueError: if none has.
    """
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    coordinates = {str(file.relative_to(root)): gps for file in files if (gps := gps_coordinates(file)) is not None}
    if not coordinates:
        raise ValueError(f"{root}: none of its {len(files)} images has GPS coordinates in its EXIF data")
    lat_deg, lng_deg = np.array(list(coordinates.values())).T
    left_out = len(files) - len(coordinates)
    lines = [f"{left_out} of {len(files)} images below {root} have no GPS coordinates; left out"] if left_out else []
    return Photos(ImageFiles(root, list(coordinates)), lat_deg, lng_deg, warnings=lines)


def gps_coordinates(path: Path) -> tuple[float, float] | None:
    """Latitude and longitude in degrees from a photo's EXIF data; None if it has none, or they are out of range."""
    try:
        with Image.open(path) as image:
            gps = image.getexif().get_ifd(IFD.GPSInfo)
        lat_deg = _degrees(gps[GPS.GPSLatitude], gps[GPS.GPSLatitudeRef], "S")
        lng_deg = _degrees(gps[GPS.GPSLongitude], gps[GPS.GPSLongitudeRef], "W")
    except (KeyError, TypeError, ValueError, ZeroDivisionError, UnidentifiedImageError, OSError):
        return None
    return (lat_deg, lng_deg) if abs(lat_deg) <= 90 and abs(lng_deg) <= 180 else None


def _read_columns(path: Path) -> dict[str, Any]:
    """The supported columns: text as lists, coordinates as arrays."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; data.csv names it")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        index_of = {name.strip().upper(): index for index, name in enumerate(header)}
        if not set(REQUIRED) <= index_of.keys():
            raise ValueError(
                f"{path}: expected the columns {', '.join(REQUIRED)} (optionally split, AUTHOR) in its first line, "
                f"got {', '.join(header)[:200]!r}"
            )
        coordinates = {LAT: array("d"), LNG: array("d")}
        texts: dict[str, list[str]] = {column: [] for column in (ID, SPLIT, AUTHOR) if column in index_of}
        for row in filter(None, reader):
            try:
                for column, values in coordinates.items():
                    values.append(float(row[index_of[column]]))
                for column, cells in texts.items():
                    cells.append(row[index_of[column]])
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected {len(header)} columns with numbers in {LAT} and {LNG}, "
                    f"got {','.join(row)[:200]!r}"
                ) from error
    if not texts[ID]:
        raise ValueError(f"{path}: it has no photos")
    return coordinates | texts


def check_coordinates(path: Path, lat_deg: Floats, lng_deg: Floats, names: Sequence[str]) -> None:
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
        f"{path}: {len(bad)} of {len(names)} photos have coordinates out of range; the first, {names[row]}, has "
        f"latitude {lat_deg[row]:g} (expected -90 to 90) and longitude {lng_deg[row]:g} (expected -180 to 180){hint}"
    )


def text_column(columns: Mapping[str, Any], column: str) -> NDArray[np.str_] | None:
    """A column as an array of text; None if there is none."""
    return np.array(columns[column]) if column in columns else None


def _degrees(parts: Sequence[Any], reference: str, negative: str) -> float:
    """Degrees, minutes and seconds in degrees."""
    degrees: float = sum(float(part) / 60**power for power, part in enumerate(parts))
    if not math.isfinite(degrees):
        raise ValueError("a fraction over zero")
    return -degrees if reference.strip("\x00 ").upper() == negative else degrees
