"""Im2GPS: the locations of the most similar training photos.

The gallery of training photos is part of the network's state, so a checkpoint is enough for prediction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.base import Backbone
from datasets.geolocation.sphere import Floats
from datasets.types import Place
from tasks.common.model.neighbours import SimilarityIndex
from tasks.geolocation.cells import Partitioning
from tasks.geolocation.places import places_of_neighbours


class NeighbourOutputs(NamedTuple):
    """The most similar photos of the gallery, in descending order.

    Attributes:
        similarities: (N, K), cosines.
        lat_deg: (N, K), latitudes.
        lng_deg: (N, K), longitudes.
    """

    similarities: Tensor
    lat_deg: Tensor
    lng_deg: Tensor


class Im2GPS(nn.Module):
    """A backbone, and the features and coordinates of the training photos; up to 50,000 are searched exactly."""

    def __init__(self, backbone: Backbone, num_neighbours: int) -> None:
        """Args: backbone: of the features; num_neighbours: K. The gallery is empty until `fill` or a checkpoint."""
        super().__init__()
        self.backbone = backbone
        self._num_neighbours = num_neighbours
        self._index = SimilarityIndex(backbone.num_features)
        self._coordinates = torch.zeros(0, 2, dtype=torch.float64)

    def fill(self, features: Tensor, lat_deg: Floats, lng_deg: Floats) -> None:
        """Add photos to the gallery: pooled features (M, num_features) and coordinates (M,)."""
        rows = np.arange(len(self._index), len(self._index) + len(features))
        self._index.add(rows, functional.normalize(features).cpu().numpy())
        self._coordinates = torch.cat([self._coordinates, torch.from_numpy(np.stack([lat_deg, lng_deg], 1))])

    def forward(self, images: Tensor) -> NeighbourOutputs:
        """uint8 RGB (N, 3, S, S) -> the K most similar photos; fewer where the gallery has fewer."""
        return self.from_features(self.backbone(images))

    def from_features(self, features: Tensor) -> NeighbourOutputs:
        """Pooled features (N, num_features) -> the K most similar photos."""
        queries = functional.normalize(features.float()).cpu().numpy()
        similarities, rows = self._index.search(queries, self._num_neighbours)
        coordinates = self._coordinates[torch.from_numpy(rows)]
        return NeighbourOutputs(torch.from_numpy(similarities), coordinates[..., 0], coordinates[..., 1])

    def get_extra_state(self) -> dict[str, Tensor]:
        """The gallery, for a checkpoint."""
        return {"index": torch.from_numpy(self._index.to_bytes()), "places": self._coordinates}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """The gallery of a checkpoint."""
        self._index, self._coordinates = SimilarityIndex.from_bytes(state["index"].numpy()), state["places"]


def decode_neighbours(
    outputs: NeighbourOutputs, partitioning: Partitioning, *, bandwidth_km: float | None
) -> list[Place]:
    """The location of each photo, and the probability of each cell, see `places_of_neighbours`."""
    lat_deg, lng_deg = outputs.lat_deg.double().cpu().numpy(), outputs.lng_deg.double().cpu().numpy()
    similarities = outputs.similarities.cpu().numpy()
    return list(places_of_neighbours(similarities, lat_deg, lng_deg, partitioning, bandwidth_km=bandwidth_km))
