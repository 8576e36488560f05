"""Photos and their coordinates from EXIF data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD

from datasets.geolocation.coordinates import Photos
from datasets.listing import list_images
from datasets.splits import split_folders, split_named
from datasets.stores import ImageFiles


class NoCoordinatesError(ValueError):
    """A photo's EXIF data have no coordinates that can be used."""


def read_exif(root: Path) -> tuple[Photos, str]:
    """All photos below a folder that have GPS coordinates in their EXIF data, and what they are, for the user.

    Raises:
        ValueError: if none has.
    """
    listing = list_images(root)
    coordinates: dict[str, tuple[float, float]] = {}
    without: dict[str, list[str]] = {}
    for name in listing.names:
        try:
            coordinates[name] = gps_coordinates(root / name)
        except NoCoordinatesError as error:
            without.setdefault(str(error), []).append(name)
    total = len(listing.names)
    if not coordinates:
        reasons = "; ".join(f"{len(names)} {reason}" for reason, names in without.items())
        raise ValueError(
            f"{root}: none of its {total} images has GPS coordinates in its EXIF data"
            + (f" ({reasons})" if reasons else "")
        )
    warnings = [
        f"{root}: {len(names)} of {total} images {reason}; left out, the first {names[0]}"
        for reason, names in without.items()
    ]
    if listing.passed_over:
        warnings.append(f"{root}: {listing.line()}")
    lat_deg, lng_deg = np.array(list(coordinates.values())).T
    splits = None
    if "train" in split_folders(root):
        splits = np.array([split_named(name.partition("/")[0]) or "" for name in coordinates])
    photos = Photos(ImageFiles(root, list(coordinates)), lat_deg, lng_deg, splits, warnings=warnings)
    return photos, f"EXIF data of {len(coordinates)} of {total} images"


def gps_coordinates(path: Path) -> tuple[float, float]:
    """Latitude and longitude in degrees from a photo's EXIF data.

    Raises:
        NoCoordinatesError: if it has none, saying why in words that follow "3 images".
    """
    try:
        with Image.open(path) as image:
            gps = image.getexif().get_ifd(IFD.GPSInfo)
    except Exception as error:  # Pillow raises errors of many types for damaged files
        raise NoCoordinatesError("cannot be read") from error
    if GPS.GPSLatitude not in gps or GPS.GPSLongitude not in gps:
        raise NoCoordinatesError("have no GPS coordinates")
    references = [str(gps.get(key, "")).strip("\x00 ").upper() for key in (GPS.GPSLatitudeRef, GPS.GPSLongitudeRef)]
    if references[0] not in ("N", "S") or references[1] not in ("E", "W"):
        raise NoCoordinatesError("have GPS coordinates without the letter N, S, E or W, so the hemisphere is unknown")
    try:
        lat_deg, lng_deg = _degrees(gps[GPS.GPSLatitude]), _degrees(gps[GPS.GPSLongitude])
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise NoCoordinatesError("have GPS coordinates that are no numbers") from error
    if not (0 <= lat_deg <= 90 and 0 <= lng_deg <= 180):
        raise NoCoordinatesError("have GPS coordinates out of range")
    if lat_deg == lng_deg == 0:
        raise NoCoordinatesError(
            "are at latitude 0 and longitude 0, which cameras and apps write where they know no place"
        )
    return -lat_deg if references[0] == "S" else lat_deg, -lng_deg if references[1] == "W" else lng_deg


def _degrees(parts: Sequence[Any]) -> float:
    """Degrees, minutes and seconds in degrees.

    Raises:
        ValueError: if they are not finite.
    """
    degrees: float = sum(float(part) / 60**power for power, part in enumerate(parts))
    if not math.isfinite(degrees):
        raise ValueError("a fraction over zero")
    return degrees
