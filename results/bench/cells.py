"""S2 cell ids of many coordinates, compared with s2geometry; and PlaNet's cells from photos, with the memory they take.

The photos are scattered around random towns, some of which have a thousand times as many as others. The limits are
PlaNet's: at most 10,000 photos in a cell, at least 50.
"""

from __future__ import annotations

import time

import numpy as np

from datasets.geolocation.sphere import Floats, to_lat_lng
from results.bench.measure import Comparison, Step, Timing, Workload, peak_memory_mb, time_calls

NUM_TOWNS, SPREAD = 20_000, 0.002  # the latter on the unit sphere: 13 km
MAX_PHOTOS, MIN_PHOTOS = 10_000, 50


def _cell_ids(implementation: str, workload: Workload) -> Timing:
    lat_deg, lng_deg = _photos(workload.size)
    if implementation == "ours":
        from tasks.geolocation.s2 import leaf_cells

        return Timing(workload.size, time_calls(lambda: leaf_cells(lat_deg, lng_deg), workload), {})

    import s2geometry

    pairs = list(zip(lat_deg.tolist(), lng_deg.tolist(), strict=True))

    def one_by_one() -> None:
        for lat, lng in pairs:
            s2geometry.S2CellId(s2geometry.S2LatLng.FromDegrees(lat, lng)).id()

    return Timing(workload.size, time_calls(one_by_one, workload), {})


def _partitioning(_implementation: str, workload: Workload) -> Timing:
    from tasks.geolocation.cells import divide

    lat_deg, lng_deg = _photos(workload.size)
    photos_mb = peak_memory_mb()
    steps: list[Step] = []
    for _ in range(workload.warmup + workload.steps):
        times = [time.perf_counter()]
        (cells,) = divide(lat_deg, lng_deg, max_photos=[MAX_PHOTOS], min_photos=MIN_PHOTOS)
        times.append(time.perf_counter())
        divided_mb = peak_memory_mb()
        found = cells.find(lat_deg, lng_deg)
        times.append(time.perf_counter())
        steps.append({"divide": times[1] - times[0], "find each photo's cell": times[2] - times[1]})
    assert np.array_equal(np.bincount(found[found >= 0], minlength=len(cells)), cells.num_photos)
    details = {"num_cells": len(cells), "peak_memory_mb": divided_mb, "before_mb": photos_mb}
    return Timing(workload.size, steps[workload.warmup :], details)


def _photos(num_photos: int) -> tuple[Floats, Floats]:
    """Latitudes and longitudes, in degrees."""
    rng = np.random.default_rng(0)
    towns = rng.normal(size=(NUM_TOWNS, 3))
    towns /= np.linalg.norm(towns, axis=1, keepdims=True)
    sizes = rng.pareto(1.0, NUM_TOWNS) + 0.01
    town_ids = rng.choice(NUM_TOWNS, num_photos, p=sizes / sizes.sum())
    lat_deg, lng_deg = np.empty(num_photos), np.empty(num_photos)
    for start in range(0, num_photos, 1 << 20):  # in parts, so that the peak is not this function's
        part = slice(start, start + (1 << 20))
        near = towns[town_ids[part]]
        lat_deg[part], lng_deg[part] = to_lat_lng(near + rng.normal(0, SPREAD, near.shape))
    return lat_deg, lng_deg


COMPARISONS = [
    Comparison(
        name="cell ids of {size:,} coordinates",
        unit="ids",
        implementations={"ours": None, "s2geometry, one by one": "s2geometry"},
        reference="s2geometry, one by one",
        measure=_cell_ids,
        size=1_000_000,
        size_flag="num_images",
        steps=3,
        warmup=1,
    ),
    Comparison(
        name="cells of {size:,} photos",
        unit="photos",
        implementations={"ours": None},
        reference=None,
        measure=_partitioning,
        size=10_000_000,
        size_flag="num_images",
        steps=1,
        warmup=0,
    ),
]
