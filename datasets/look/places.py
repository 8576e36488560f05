"""Look at coordinates: sentinel values, and what swapped or unsigned coordinates look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import tzfpy
from numpy.typing import NDArray

from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.geolocation.sphere import Floats
from datasets.look.finding import Finding, ratio, selected
from datasets.subsample import evenly_spread
from datasets.types import Split

NULL_DEG = 1e-4  # around latitude 0, longitude 0, where there is only sea
MANY_AT_ONE, MIN_AT_ONE = 0.05, 20  # photos at one coordinate, as a fraction and a number
OPEN_SEA = "Etc/"  # time zones of the open sea
NUM_LOOKED_UP = 500  # places, at 16 microseconds each
MANY_AT_SEA, FEW_AT_SEA = 0.2, 0.02
MIN_EVIDENCE = 20  # places, for a guess at what they mean


def look_at_places(sources: Mapping[Split, GeotaggedPhotos]) -> Iterator[Finding]:
    """What is to be said about the places of a data set."""
    if "train" in sources:
        places = np.unique(_coordinates(sources["train"]), axis=0)
        if len(places) < 2:
            yield Finding("error", "train: all photos have one place; with fewer than two nothing can be learned")
    coordinates = np.concatenate([_coordinates(source) for source in sources.values()])
    ids = [(source, row) for source in sources.values() for row in range(len(source))]
    is_null = (np.abs(coordinates) < NULL_DEG).all(1)
    if is_null.any():
        source, row = ids[int(is_null.argmax())]
        yield Finding(
            "warning",
            f"{selected(is_null, 'photos')} are at latitude 0, longitude 0, which cameras without "
            f"a position write; leave them out (the first is {source.id(row)})",
        )
    yield from _one_place(coordinates[~is_null])
    yield from _misread(coordinates[~is_null])
    if "train" in sources and "val" in sources:
        yield from _shared_places(sources["train"], sources["val"])


def _coordinates(source: GeotaggedPhotos) -> Floats:
    return np.column_stack([source.lat_deg, source.lng_deg])


def _one_place(coordinates: Floats) -> Iterator[Finding]:
    places, counts = np.unique(coordinates, axis=0, return_counts=True)
    if len(places) > 1 and counts.max() >= max(MIN_AT_ONE, MANY_AT_ONE * len(coordinates)):
        lat_deg, lng_deg = places[counts.argmax()].tolist()
        yield Finding(
            "note",
            f"{ratio(int(counts.max()), len(coordinates), 'photos')} are at exactly {lat_deg:g}, {lng_deg:g}: if that "
            "is the centre of a city, their true places are others",
        )


def _shared_places(train: GeotaggedPhotos, val: GeotaggedPhotos) -> Iterator[Finding]:
    places = set(map(tuple, _coordinates(train).tolist()))
    num_shared = sum(tuple(place) in places for place in _coordinates(val).tolist())
    if num_shared:
        yield Finding(
            "note",
            f"{ratio(num_shared, len(val), 'photos of val')} are at exactly the place of a photo of train: scores are "
            "not those of new places",
        )


def _misread(coordinates: Floats) -> Iterator[Finding]:
    """Coordinates that are at sea as they are, and on land if they are read in another way."""
    places = np.unique(coordinates, axis=0)
    if len(places) < MIN_EVIDENCE:
        return
    lat_deg, lng_deg = places[evenly_spread(len(places), NUM_LOOKED_UP)].T
    at_sea = _is_at_sea(lat_deg, lng_deg)
    if at_sea.mean() < MANY_AT_SEA:
        return
    is_latitude = np.abs(lng_deg) <= 90
    others = {
        "latitude and longitude look swapped": (lng_deg[is_latitude], lat_deg[is_latitude]),
        "the signs of western longitudes look lost": (lat_deg, -lng_deg),
        "the signs of southern latitudes look lost": (-lat_deg, lng_deg),
        "the signs of latitudes and longitudes look lost": (-lat_deg, -lng_deg),
    }
    guess = "; their coordinates may be wrong"
    for text, (other_lat_deg, other_lng_deg) in others.items():
        is_possible = len(other_lat_deg) > (1 - FEW_AT_SEA) * len(lat_deg)
        if is_possible and _is_at_sea(other_lat_deg, other_lng_deg).mean() <= FEW_AT_SEA:
            guess = f", and on land otherwise: {text}"
            break
    yield Finding("warning", f"{at_sea.mean():.0%} of the places are on the open sea{guess}")


def _is_at_sea(lat_deg: Floats, lng_deg: Floats) -> NDArray[np.bool_]:
    zones = [tzfpy.get_tz(lng, lat) for lat, lng in zip(lat_deg.tolist(), lng_deg.tolist(), strict=True)]
    return np.array([zone.startswith(OPEN_SEA) or not zone for zone in zones], np.bool_)
