"""Groups of photos by where they were taken, so that a split keeps neighbours together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.sphere import EARTH_RADIUS_KM, Floats, chord, to_unit_vectors

ROUNDING = 1e-12  # of a chord between unit vectors; 6 micrometres on the Earth


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
    from scipy.spatial import cKDTree  # slow to import, and only places need it

    # Many photos have the same coordinates, and duplicates make the tree slow.
    coordinates, index_of = np.unique(np.stack([lat_deg, lng_deg], -1), axis=0, return_inverse=True)
    index_of = index_of.ravel()
    is_selected = np.zeros(len(coordinates), np.bool_)
    is_selected[index_of[selected]] = True
    points = to_unit_vectors(coordinates[:, 0], coordinates[:, 1])
    max_chord = chord(within_km) + ROUNDING
    distances, _ = cKDTree(points[is_selected]).query(points, distance_upper_bound=max_chord)
    return np.asarray((distances <= max_chord)[index_of] & ~selected)
