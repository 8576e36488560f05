"""Who was where: photos and their coordinates from a CSV file or from EXIF (`shards.py`: from tar files)."""

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
    """Photos, where they were taken, and what else is said of them.

    Attributes:
        images: N images.
        lat_deg: (N,) in [-90, 90].
        lng_deg: (N,) in [-180, 180].
        splits: (N,) names of splits; None where the data have none.
        authors: (N,); None where the data name none.
        warnings: what was passed over.
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
        """Some of the photos, without the warnings."""
        splits = None if self.splits is None else self.splits[rows]
        authors = None if self.authors is None else self.authors[rows]
        return Photos(self.images.select(rows), self.lat_deg[rows], self.lng_deg[rows], splits, authors)


def read_csv(path: Path, images: Path, *, max_missing_fraction: float) -> Photos:
    """Photos that a CSV file lists, as MP-16 and Im2GPS3k do: IMG_ID, LAT, LON, and `split` and AUTHOR if it has them.

    Args:
        path: the file; its first line names the columns, in any order and among others.
        images: the folder that IMG_ID is below.
        max_missing_fraction: of the images, that may be missing; they are left out and counted.

    Raises:
        ValueError: naming file and line: other columns, no numbers, no such place on Earth, images that are missing.
    """
    try:
        columns = _read_columns(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    lat_deg, lng_deg = np.array(columns[LAT]), np.array(columns[LNG])
    check_places(path, lat_deg, lng_deg, columns[ID])
    if len(set(columns[ID])) < len(columns[ID]):
        raise ValueError(f"{path}: an {ID} occurs twice")
    photos = Photos(
        ImageFiles(images, columns[ID]), lat_deg, lng_deg, texts_of(columns, SPLIT), texts_of(columns, AUTHOR)
    )
    missing = missing_files([path_inside(images, name) for name in columns[ID]])
    if not missing:
        return photos
    line = f"{len(missing)} of {len(photos)} images of {path} are missing, first {missing[0]}"
    if len(missing) > max_missing_fraction * len(photos):
        raise ValueError(
            f"{line}; data.images names their folder, loop.max_unreadable_fraction how many may be missing"
        )
    there = ~np.isin(columns[ID], [os.path.relpath(file, images) for file in missing])
    return replace(photos.select(there), warnings=[f"{line}; they are left out"])


def read_exif(root: Path) -> Photos:
    """All photos below a folder that have GPS coordinates in their EXIF data.

    Raises:
        ValueError: if none has.
    """
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    places = {str(file.relative_to(root)): place for file in files if (place := gps_place(file)) is not None}
    if not places:
        raise ValueError(f"{root}: none of its {len(files)} images has GPS coordinates in its EXIF data")
    lat_deg, lng_deg = np.array(list(places.values())).T
    left_out = len(files) - len(places)
    lines = [f"{left_out} of {len(files)} images below {root} have no GPS coordinates; left out"] if left_out else []
    return Photos(ImageFiles(root, list(places)), lat_deg, lng_deg, warnings=lines)


def gps_place(path: Path) -> tuple[float, float] | None:
    """Latitude and longitude in degrees from a photo's EXIF data; None where it has none, or none on Earth."""
    try:
        with Image.open(path) as image:
            gps = image.getexif().get_ifd(IFD.GPSInfo)
        lat_deg = _degrees(gps[GPS.GPSLatitude], gps[GPS.GPSLatitudeRef], "S")
        lng_deg = _degrees(gps[GPS.GPSLongitude], gps[GPS.GPSLongitudeRef], "W")
    except (KeyError, TypeError, ValueError, ZeroDivisionError, UnidentifiedImageError, OSError):
        return None
    return (lat_deg, lng_deg) if abs(lat_deg) <= 90 and abs(lng_deg) <= 180 else None


def _read_columns(path: Path) -> dict[str, Any]:
    """The columns that we know: names as lists of text, coordinates as arrays."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; data.csv names it")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        at = {name.strip().upper(): number for number, name in enumerate(header)}
        if not set(REQUIRED) <= at.keys():
            raise ValueError(
                f"{path}: expected the columns {', '.join(REQUIRED)} (and perhaps split, AUTHOR) in its first line, "
                f"got {', '.join(header)[:200]!r}"
            )
        numbers = {LAT: array("d"), LNG: array("d")}
        texts: dict[str, list[str]] = {column: [] for column in (ID, SPLIT, AUTHOR) if column in at}
        for row in filter(None, reader):
            try:
                for column, values in numbers.items():
                    values.append(float(row[at[column]]))
                for column, words in texts.items():
                    words.append(row[at[column]])
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected {len(header)} columns with numbers in {LAT} and {LNG}, "
                    f"got {','.join(row)[:200]!r}"
                ) from error
    if not texts[ID]:
        raise ValueError(f"{path}: it lists no photo")
    return numbers | texts


def check_places(path: Path, lat_deg: Floats, lng_deg: Floats, names: Sequence[str]) -> None:
    """Raise a ValueError that names the first photo that is nowhere on Earth, and why that may be."""
    bad_lat, bad_lng = ~(np.abs(lat_deg) <= 90), ~(np.abs(lng_deg) <= 180)  # NaN is bad too
    bad = np.flatnonzero(bad_lat | bad_lng)
    if not len(bad):
        return
    row = int(bad[0])
    is_swapped = bool(bad_lat.any()) and bool((np.abs(lng_deg) <= 90).all()) and bool((np.abs(lat_deg) <= 180).all())
    hint = (
        "; every longitude is one that a latitude could be, so the two columns look swapped"
        if is_swapped
        else "; longitudes from 0 to 360 must be given as -180 to 180"
        if not bad_lat.any() and bool((lng_deg >= 0).all())
        else ""
    )
    raise ValueError(
        f"{path}: {len(bad)} of {len(names)} photos are nowhere on Earth; the first, {names[row]}, has latitude "
        f"{lat_deg[row]:g} (expected -90 to 90) and longitude {lng_deg[row]:g} (expected -180 to 180){hint}"
    )


def texts_of(columns: Mapping[str, Any], column: str) -> NDArray[np.str_] | None:
    """A column as an array of text; None where there is none."""
    return np.array(columns[column]) if column in columns else None


def _degrees(parts: Sequence[Any], reference: str, negative: str) -> float:
    """Degrees, minutes and seconds as one number."""
    degrees: float = sum(float(part) / 60**number for number, part in enumerate(parts))
    if not math.isfinite(degrees):
        raise ValueError("a fraction over zero")
    return -degrees if reference.strip("\x00 ").upper() == negative else degrees
