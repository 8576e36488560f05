"""How fast the Earth is divided into cells, and how much memory that takes.

    python -m tasks.geolocation.throughput --photos 10000000

Photos are scattered around random towns, some of which have a thousand times as many as others. Prints the seconds to
divide them and to find each one's cell, and the process's peak memory before and after.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from datasets.sphere import Floats, to_lat_lng
from tasks.geolocation.cells import divide

NUM_TOWNS, SPREAD = 20_000, 0.002  # the latter on the unit sphere: 13 km
BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def main(words: list[str]) -> int:
    """Divide so many photos and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000_000, help="their number (default: %(default)s)")
    parser.add_argument("--max_photos", type=int, default=10_000, help="in a cell (default: PlaNet's %(default)s)")
    parser.add_argument("--min_photos", type=int, default=50, help="in a cell (default: PlaNet's %(default)s)")
    options = parser.parse_args(words)
    lat_deg, lng_deg = _scattered(options.photos)
    before = _peak_bytes()
    times = [time.perf_counter()]
    (cells,) = divide(lat_deg, lng_deg, max_photos=[options.max_photos], min_photos=options.min_photos)
    times.append(time.perf_counter())
    peak = _peak_bytes()
    found = cells.find(lat_deg, lng_deg)
    times.append(time.perf_counter())
    kept = found >= 0
    assert np.array_equal(np.bincount(found[kept], minlength=len(cells)), cells.num_photos)
    print(f"{options.photos:,} photos, {len(cells):,} cells, {options.photos - kept.sum():,} photos in none")
    print(f"dividing {times[1] - times[0]:.1f} s, finding each photo's cell {times[2] - times[1]:.1f} s")
    print(f"peak memory {before / 1e9:.2f} GB with the photos, {peak / 1e9:.2f} GB after dividing")
    return 0


def _scattered(number: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    towns = rng.normal(size=(NUM_TOWNS, 3))
    towns /= np.linalg.norm(towns, axis=1, keepdims=True)
    sizes = rng.pareto(1.0, NUM_TOWNS) + 0.01
    town_of = rng.choice(NUM_TOWNS, number, p=sizes / sizes.sum())
    lat_deg, lng_deg = np.empty(number), np.empty(number)
    for start in range(0, number, 1 << 20):  # in parts, so that the peak is not this function's
        part = slice(start, start + (1 << 20))
        near = towns[town_of[part]]
        lat_deg[part], lng_deg[part] = to_lat_lng(near + rng.normal(0, SPREAD, near.shape))
    return lat_deg, lng_deg


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_UNIT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
