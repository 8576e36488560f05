"""From what a network says of photos to the places where they were taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.sphere import Floats
from datasets.types import Place
from tasks.geolocation.cells import Partitioning
from tasks.geolocation.mean_shift import weighted_mode

TEMPERATURE = 0.05  # of cosine similarities: a difference of this much is a factor of e in weight


def places_of_points(
    probabilities: NDArray[np.float32],
    weights: NDArray[np.float32],
    lat_deg: Sequence[Floats] | Floats,
    lng_deg: Sequence[Floats] | Floats,
    *,
    bandwidth_km: float | None,
) -> Iterator[Place]:
    """The location of each photo, from weighted points.

    Args:
        probabilities: (N, cells).
        weights: (N, K), of the points.
        lat_deg: (N, K), their latitudes.
        lng_deg: (N, K), their longitudes.
        bandwidth_km: see `weighted_mode`; None for the point with the largest weight.
    """
    for row, weight, lats, lngs in zip(probabilities, weights, lat_deg, lng_deg, strict=True):
        lat, lng = weighted_mode(lats, lngs, weight, bandwidth_km)
        yield Place(lat, lng, int(row.argmax()), row)


def places_of_cells(
    probabilities: NDArray[np.float32], partitioning: Partitioning, *, bandwidth_km: float | None
) -> Iterator[Place]:
    """The location of each photo, from the probability of each cell.

    Args:
        probabilities: (N, cells).
        partitioning: the cells.
        bandwidth_km: see `weighted_mode`; None for the centroid of the most probable cell.
    """
    lat_deg, lng_deg = [[column] * len(probabilities) for column in (partitioning.lat_deg, partitioning.lng_deg)]
    return places_of_points(probabilities, probabilities, lat_deg, lng_deg, bandwidth_km=bandwidth_km)


def places_of_neighbours(
    similarities: NDArray[np.float32],
    lat_deg: Floats,
    lng_deg: Floats,
    partitioning: Partitioning,
    *,
    bandwidth_km: float | None,
) -> Iterator[Place]:
    """The location of each photo, and the probability of each cell, from its neighbours.

        w_k = softmax over neighbours of similarity_k / 0.05;    p(cell) = sum of w_k of the neighbours in it

    Args:
        similarities: (N, K), cosines.
        lat_deg: (N, K), latitudes of the neighbours.
        lng_deg: (N, K), longitudes of the neighbours.
        partitioning: cells, for the map and the regions.
        bandwidth_km: see `weighted_mode`; None for the location of the most similar photo.

    Source: Hays and Efros 2008 (Im2GPS); the softmax is ours.
    """
    weights = np.exp((similarities - similarities.max(1, keepdims=True)) / TEMPERATURE)
    weights /= weights.sum(1, keepdims=True)
    probabilities = np.zeros((len(weights), len(partitioning)), np.float32)
    for row, weight, lats, lngs in zip(probabilities, weights, lat_deg, lng_deg, strict=True):
        cell_ids = partitioning.find(lats, lngs)
        kept = cell_ids >= 0
        row[:] = np.bincount(cell_ids[kept], weight[kept], len(partitioning))
    return places_of_points(probabilities, weights, lat_deg, lng_deg, bandwidth_km=bandwidth_km)
