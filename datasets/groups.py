"""Splits that do not leak: what belongs together stays on one side, and photos that are added move no others.

A hash of its name decides where a photo goes, as in Google's Speech Commands (`which_set`; Warden 2018,
arXiv:1804.03209): the name of the file, person, author or grid cell. So a network that was trained before the photos
were added has not seen those that it is validated on after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from datasets.sphere import EARTH_RADIUS_KM, Floats, chord, unit_vectors

HASH_BITS = 48  # a float holds them exactly, so that no fraction rounds up to 1
ROUNDING = 1e-12  # of a chord between unit vectors; 6 micrometres on the Earth


def validation_rows(names: Sequence[str], val_fraction: float) -> NDArray[np.bool_]:
    """Which photos are for validation: those of the names with blake2b(name) / 2⁴⁸ < val_fraction.

    Neither side is left empty. Where no name is below the share, the one of the smallest hash is for validation; where
    all are, the one of the largest is for training. Such a stand-in may give way to a name that is added; no other name
    changes sides.

    Args:
        names: (N,) of what each photo belongs to; two different ones or more, unless val_fraction is 1.
        val_fraction: expected share of the names, over 0; 1 takes all, and leaves none for training.
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
    """The name of the grid cell of each photo, which depends on its own coordinates alone.

    The grid has rows of equal height in latitude, one around the equator and a cap at each pole, each cut into as many
    columns of equal width as make the cells about square.
    """
    quarter = max(1, round(np.pi / 2 * EARTH_RADIUS_KM / side_km))  # rows from the equator to a pole
    rows = np.round(lat_deg * (quarter / 90))
    num_columns = np.maximum(1, np.round(4 * quarter * np.cos(np.pi / 2 * rows / quarter)))
    columns = np.floor((lng_deg + 180) / 360 * num_columns) % num_columns  # 180 degrees is where -180 is
    cells = zip(rows.astype(np.int64).tolist(), columns.astype(np.int64).tolist(), strict=True)
    return [f"{row},{column}" for row, column in cells]


def near_rows(lat_deg: Floats, lng_deg: Floats, chosen: NDArray[np.bool_], within_km: float) -> NDArray[np.bool_]:
    """Which photos are within so many kilometres of one of those chosen, these themselves left aside."""
    # Many photos have the same coordinates, which make the tree slow.
    places, place_of = np.unique(np.stack([lat_deg, lng_deg], -1), axis=0, return_inverse=True)
    place_of = place_of.ravel()
    is_chosen = np.zeros(len(places), np.bool_)
    is_chosen[place_of[chosen]] = True
    points = unit_vectors(places[:, 0], places[:, 1])
    reach = chord(within_km) + ROUNDING
    distances, _ = cKDTree(points[is_chosen]).query(points, distance_upper_bound=reach)
    return np.asarray((distances <= reach)[place_of] & ~chosen)


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends on the name alone, uniform over names."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=HASH_BITS // 8).digest()
    return int.from_bytes(digest, "big") / 2.0**HASH_BITS
