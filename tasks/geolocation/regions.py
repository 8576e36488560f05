"""Coarse regions: what may be said of a photo without saying where somebody lives."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import s2cell
import tzfpy
from numpy.typing import NDArray

from datasets.sphere import EARTH_RADIUS_KM
from datasets.types import Place
from tasks.geolocation import s2
from tasks.geolocation.cells import Partitioning

REGION_LEVEL = 4  # S2 cells of about 330,000 km², the size of Germany or Finland
NUM_REGIONS = 5


class Region(NamedTuple):
    """An S2 cell of level 4, or a larger cell of the model.

    Attributes:
        cell: S2's token.
        name: of the time zone around its middle, for example Europe/Helsinki.
        lat_deg: of its middle, rounded to a degree.
        lng_deg: the same.
        width_km: side of a square of its mean area.
        probability: of the model's cells in it.
    """

    cell: str
    name: str
    lat_deg: int
    lng_deg: int
    width_km: int
    probability: float


def region_cells(partitioning: Partitioning) -> s2.Ids:
    """The region that each of a model's cells is in; a cell larger than a region is one itself."""
    is_large = s2.lowest_bit(partitioning.cells) > np.uint64(1 << (2 * (s2.MAX_LEVEL - REGION_LEVEL)))
    return np.where(is_large, partitioning.cells, s2.parents(partitioning.cells, REGION_LEVEL))


def most_probable_regions(predicted: Place, partitioning: Partitioning) -> list[Region]:
    """The regions that a prediction thinks most probable, the best first."""
    regions, first_cell = np.unique(region_cells(partitioning), return_index=True)
    probabilities = region_probabilities(predicted, partitioning)[first_cell]
    best = np.argsort(-probabilities, kind="stable")[:NUM_REGIONS]
    return [_describe(int(regions[row]), float(probabilities[row])) for row in best if probabilities[row] > 0]


def region_probabilities(predicted: Place, partitioning: Partitioning) -> NDArray[np.float32]:
    """For each of a model's cells, (cells,), the probability of the region that it is in."""
    assert predicted.probabilities is not None
    _, region_of = np.unique(region_cells(partitioning), return_inverse=True)
    sums: NDArray[np.float32] = np.bincount(region_of, predicted.probabilities).astype(np.float32)[region_of]
    return sums


def _describe(cell: int, probability: float) -> Region:
    """The middle is that of the region itself: that of its photos would give away where they are."""
    lat_deg, lng_deg = s2cell.cell_id_to_lat_lon(cell)
    width_km = EARTH_RADIUS_KM * math.sqrt(4 * math.pi / 6) / 2 ** s2cell.cell_id_to_level(cell)
    name = tzfpy.get_tz(lng_deg, lat_deg)
    return Region(
        s2cell.cell_id_to_token(cell), name, round(lat_deg), round(lng_deg), round(width_km), round(probability, 4)
    )
