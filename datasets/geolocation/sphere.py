"""Distances and directions on the Earth as a sphere.

Coordinates are pairs of arrays in degrees, latitude in [-90, 90] and longitude in [-180, 180]. All but distances is
computed on unit vectors, which are continuous across the poles and the antimeridian.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
EARTH_RADIUS_KM = 6371.0088  # the mean radius of WGS 84


def distance_km(lat_a: ArrayLike, lng_a: ArrayLike, lat_b: ArrayLike, lng_b: ArrayLike) -> Floats:
    """Great-circle distances between points a and b in degrees, broadcast against each other (haversine formula).

    h = sin²((φb - φa) / 2) + cos φa cos φb sin²((λb - λa) / 2),   d = 2 R asin √h
    """
    phi_a, lambda_a, phi_b, lambda_b = (np.radians(value) for value in (lat_a, lng_a, lat_b, lng_b))
    h = np.sin((phi_b - phi_a) / 2) ** 2 + np.cos(phi_a) * np.cos(phi_b) * np.sin((lambda_b - lambda_a) / 2) ** 2
    distances: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(h, 0, 1)))
    return distances


def to_unit_vectors(lat_deg: ArrayLike, lng_deg: ArrayLike) -> Floats:
    """Coordinates in degrees -> points of the unit sphere, (..., 3)."""
    phi, lambda_ = np.radians(lat_deg), np.radians(lng_deg)
    return np.stack([np.cos(phi) * np.cos(lambda_), np.cos(phi) * np.sin(lambda_), np.sin(phi)], -1)


def to_lat_lng(vectors: Floats) -> tuple[Floats, Floats]:
    """Vectors (..., 3) of any length -> latitudes and longitudes of their directions, in degrees."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def chord(arc_km: float) -> float:
    """Length on the unit sphere of the chord of an arc on the Earth."""
    return float(2 * np.sin(min(arc_km / EARTH_RADIUS_KM, np.pi) / 2))
