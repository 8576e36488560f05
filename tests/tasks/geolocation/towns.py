"""Partitionings for the tests of geolocation."""

import numpy as np

from tasks.geolocation.cells import Partitioning, divide

# Three towns: two near each other, one across the antimeridian.
LAT_DEG = np.repeat([48.0, 50.0, -17.0], 4) + np.tile([0, 0.01, 0.02, 0.03], 3)
LNG_DEG = np.repeat([2.0, 9.0, 179.99], 4)


def towns(*max_photos: int) -> list[Partitioning]:
    """Partitionings of twelve photos in three towns."""
    return divide(LAT_DEG, LNG_DEG, max_photos=max_photos, min_photos=1)
