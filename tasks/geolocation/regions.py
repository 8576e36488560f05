"""Coarse regions: predictions that do not give away an exact location."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import s2cell
import tzfpy
from numpy.typing import NDArray

from datasets.geolocation.sphere import EARTH_RADIUS_KM
from datasets.types import Place
from tasks.geolocation import s2
from tasks.geolocation.cells import Partitioning

REGION_LEVEL = 4  # S2 cells of about 330,000 km², the size of Germany or Finland
NUM_REGIONS = 5


class Region(NamedTuple):
    """An S2 cell of level 4, or a larger cell of the model.

    Attributes:
        cell: S2 token.
        name: time zone of its centre, for example Europe/Helsinki.
        lat_deg: latitude of its centre, rounded to a degree.
        lng_deg: longitude of its centre, rounded to a degree.
        width_km: side of a square with the mean area of a cell of its level.
        probability: sum over the model's cells in it.
    """

    cell: str
    name: str
    lat_deg: int
    lng_deg: int
    width_km: int
    probability: float


def region_cells(partitioning: Partitioning) -> s2.Ids:
    """The region that contains each of a model's cells; a cell larger than a region is a region itself."""
    is_large = s2.lowest_bit(partitioning.cells) > np.uint64(1 << (2 * (s2.MAX_LEVEL - REGION_LEVEL)))
    return np.where(is_large, partitioning.cells, s2.parents(partitioning.cells, REGION_LEVEL))


def most_probable_regions(predicted: Place, partitioning: Partitioning) -> list[Region]:
    """The most probable regions of a prediction, in descending order."""
    regions, first_cell = np.unique(region_cells(partitioning), return_index=True)
    probabilities = region_probabilities(predicted, partitioning)[first_cell]
    best = np.argsort(-probabilities, kind="stable")[:NUM_REGIONS]
    return [_describe(int(regions[row]), float(probabilities[row])) for row in best if probabilities[row] > 0]


def all_regions(partitioning: Partitioning) -> tuple[list[Region], list[int]]:
    """All regions, without a probability, and the index among them of each of a model's cells."""
    regions, region_of_cell = np.unique(region_cells(partitioning), return_inverse=True)
    return [_describe(int(region), 0.0) for region in regions], region_of_cell.tolist()


def regions_as_columns(regions: Sequence[Region]) -> dict[str, NDArray[Any]]:
    """The fields of regions as columns, whose types do not depend on the regions."""
    dtypes: dict[type, Any] = {str: str, int: np.int64, float: np.float64}
    return {
        name: np.array([getattr(region, name) for region in regions], dtypes[hint])
        for name, hint in get_type_hints(Region).items()
    }


def region_probabilities(predicted: Place, partitioning: Partitioning) -> NDArray[np.float32]:
    """(cells,), for each of a model's cells the probability of its region."""
    assert predicted.probabilities is not None
    _, region_of = np.unique(region_cells(partitioning), return_inverse=True)
    sums: NDArray[np.float32] = np.bincount(region_of, predicted.probabilities).astype(np.float32)[region_of]
    return sums


def _describe(cell: int, probability: float) -> Region:
    """The centre is that of the region: the centroid of its photos would give away their location."""
    lat_deg, lng_deg = s2cell.cell_id_to_lat_lon(cell)
    width_km = EARTH_RADIUS_KM * math.sqrt(4 * math.pi / 6) / 2 ** s2cell.cell_id_to_level(cell)
    name = tzfpy.get_tz(lng_deg, lat_deg)
    return Region(
        s2cell.cell_id_to_token(cell), name, round(lat_deg), round(lng_deg), round(width_km), round(probability, 4)
    )
