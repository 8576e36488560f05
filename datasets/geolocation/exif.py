"""Photos and their coordinates from EXIF data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.ExifTags import GPS, IFD

from datasets.geolocation.coordinates import Photos
from datasets.images import headers
from datasets.listing import list_images
from datasets.splits import split_folders, split_named
from datasets.stores import ImageFiles

NO_NUMBERS = "GPS coordinates that are no numbers"


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
        reasons = "; ".join(f"{len(names)}: {reason}" for reason, names in without.items())
        raise ValueError(
            f"{root}: none of its {total} images has GPS coordinates in its EXIF data"
            + (f" ({reasons})" if reasons else "")
        )
    warnings = [
        f"{root}: {len(names)} of {total} images left out: {reason} (the first is {names[0]})"
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
        NoCoordinatesError: if it has none that can be used, saying why.
    """
    try:
        with path.open("rb") as file:
            gps = headers.read_exif(file).get_ifd(IFD.GPSInfo)
    except ValueError as error:  # not an image, or HEIC without its reader
        raise NoCoordinatesError(str(error)) from error
    except Exception as error:  # Pillow raises errors of many types for damaged files
        raise NoCoordinatesError("a file or EXIF data that cannot be read") from error
    if GPS.GPSLatitude not in gps or GPS.GPSLongitude not in gps:
        raise NoCoordinatesError("no GPS coordinates")
    lat_deg = _degrees(gps[GPS.GPSLatitude], gps.get(GPS.GPSLatitudeRef), "NS")
    lng_deg = _degrees(gps[GPS.GPSLongitude], gps.get(GPS.GPSLongitudeRef), "EW")
    if not (abs(lat_deg) <= 90 and abs(lng_deg) <= 180):
        raise NoCoordinatesError("GPS coordinates out of range")
    if lat_deg == lng_deg == 0:
        raise NoCoordinatesError("latitude 0 and longitude 0, which cameras and apps write where they know no place")
    return lat_deg, lng_deg


def _degrees(parts: Sequence[Any], reference: Any, letters: str) -> float:
    """Signed degrees from degrees, minutes and seconds and the letter of a hemisphere.

    EXIF's numbers have no sign. Some apps write one nevertheless: it is right where it agrees with the letter.

    Args:
        parts: degrees, and perhaps minutes and seconds.
        reference: the letter, as text or bytes.
        letters: of the positive and the negative hemisphere.

    Raises:
        NoCoordinatesError: if they are no numbers, or the hemisphere is unknown.
    """
    try:
        values = [float(part) for part in parts]
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise NoCoordinatesError(NO_NUMBERS) from error
    if not np.isfinite(values).all():  # a fraction over zero
        raise NoCoordinatesError(NO_NUMBERS)
    text = reference.decode("latin-1") if isinstance(reference, bytes) else str(reference or "")
    letter = text.strip("\x00 ").upper()[:1]
    if not letter or letter not in letters:
        raise NoCoordinatesError("GPS coordinates without the letter N, S, E or W, so the hemisphere is unknown")
    if min(values) < 0 and letter == letters[0]:
        raise NoCoordinatesError("negative GPS coordinates with the letter N or E, so the hemisphere is unknown")
    degrees = float(sum(abs(value) / 60**power for power, value in enumerate(values)))
    return degrees if letter == letters[0] else -degrees
