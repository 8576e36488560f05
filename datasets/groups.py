"""Splits without leakage: each group of photos is in one split, and adding photos does not move any.

A hash of a name (of the file, person, author or grid cell) decides the split, as in Google's Speech Commands
(`which_set`; Warden 2018, arXiv:1804.03209). So a network that was trained before photos were added is never
validated on its training photos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from datasets.sphere import EARTH_RADIUS_KM, Floats, chord, to_unit_vectors

HASH_BITS = 48  # a float holds them exactly, so that no fraction rounds up to 1
ROUNDING = 1e-12  # of a chord between unit vectors; 6 micrometres on the Earth


def validation_rows(names: Sequence[str], val_fraction: float) -> NDArray[np.bool_]:
    """Mask of the validation photos: those whose group has blake2b(name) / 2⁴⁸ < val_fraction.

    Neither side is empty: if no name is below the fraction, the one with the smallest hash is for validation; if all
    are, the one with the largest is for training. Only such a fallback can change sides when names are added.

    Args:
        names: (N,), the group of each photo; at least two different ones, unless val_fraction is 1.
        val_fraction: expected fraction of the names, over 0; 1 takes all and leaves none for training.
    """
    if val_fraction == 1:
        return np.ones(len(names), np.bool_)
    fraction_of = {name: _fraction(name) for name in set(names)}
    assert len(fraction_of) > 1
    fractions = np.array([fraction_of[name] for name in names])
    is_val: NDArray[np.bool_] = fractions < val_fraction
    if not is_val.any():
        is_val = fractions == fractions.min()
    elif is_val.all():
        is_val = fractions < fractions.max()
    return is_val


def cell_names(lat_deg: Floats, lng_deg: Floats, side_km: float) -> list[str]:
    """The name of the grid cell of each photo, a function of its coordinates alone.

    The grid has rows of equal height in latitude, one around the equator and a cap at each pole, each cut into columns
    of equal width that make the cells about square.
    """
    quarter = max(1, round(np.pi / 2 * EARTH_RADIUS_KM / side_km))  # rows from the equator to a pole
    rows = np.round(lat_deg * (quarter / 90))
    num_columns = np.maximum(1, np.round(4 * quarter * np.cos(np.pi / 2 * rows / quarter)))
    columns = np.floor((lng_deg + 180) / 360 * num_columns) % num_columns  # 180° and -180° are the same meridian
    cells = zip(rows.astype(np.int64).tolist(), columns.astype(np.int64).tolist(), strict=True)
    return [f"{row},{column}" for row, column in cells]


def near_rows(lat_deg: Floats, lng_deg: Floats, selected: NDArray[np.bool_], within_km: float) -> NDArray[np.bool_]:
    """Mask of the photos within a distance of a selected photo, without the selected ones."""
    # Many photos have the same coordinates, and duplicates make the tree slow.
    coordinates, index_of = np.unique(np.stack([lat_deg, lng_deg], -1), axis=0, return_inverse=True)
    index_of = index_of.ravel()
    is_selected = np.zeros(len(coordinates), np.bool_)
    is_selected[index_of[selected]] = True
    points = to_unit_vectors(coordinates[:, 0], coordinates[:, 1])
    max_chord = chord(within_km) + ROUNDING
    distances, _ = cKDTree(points[is_selected]).query(points, distance_upper_bound=max_chord)
    return np.asarray((distances <= max_chord)[index_of] & ~selected)


def _fraction(name: str) -> float:
    """A hash of the name, uniform in [0, 1)."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=HASH_BITS // 8).digest()
    return int.from_bytes(digest, "big") / 2.0**HASH_BITS
