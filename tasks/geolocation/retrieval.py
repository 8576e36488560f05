"""Im2GPS: the locations of the most similar training photos.

The gallery of training photos is part of the network's state, so a checkpoint is enough for prediction.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.base import Backbone
from datasets.geolocation.sphere import Floats
from datasets.types import Place
from tasks.common.deploy.difference import in_order_of
from tasks.geolocation.cells import Partitioning
from tasks.geolocation.places import places_of_neighbours


class NeighbourOutputs(NamedTuple):
    """The most similar photos of the gallery, in descending order.

    Attributes:
        similarities: (N, K), cosines.
        rows: (N, K), in the gallery.
        lat_deg: (N, K), latitudes.
        lng_deg: (N, K), longitudes.
    """

    similarities: Tensor
    rows: Tensor
    lat_deg: Tensor
    lng_deg: Tensor

    def order(self, other: Any) -> Any:
        """The same photos found again, in this order; see `in_order_of`."""
        return in_order_of(self, other, "rows", self._fields, max_distance=0)


class Im2GPS(nn.Module):
    """A backbone, and the features and coordinates of the training photos, all of which each query is compared with.

    For half a million photos that takes as many mult-adds as the paper's network does.
    """

    def __init__(self, backbone: Backbone, num_neighbours: int) -> None:
        """Args: backbone: of the features; num_neighbours: K. The gallery is empty until `fill` or a checkpoint."""
        super().__init__()
        self.backbone = backbone
        self._num_neighbours = num_neighbours
        self._gallery = torch.zeros(0, backbone.num_features)
        self._coordinates = torch.zeros(0, 2, dtype=torch.float64)

    def fill(self, features: Tensor, lat_deg: Floats, lng_deg: Floats) -> None:
        """Add photos to the gallery: pooled features (M, num_features) and coordinates (M,)."""
        self._gallery = torch.cat([self._gallery, functional.normalize(features).cpu()])
        self._coordinates = torch.cat([self._coordinates, torch.from_numpy(np.stack([lat_deg, lng_deg], 1))])

    @property
    def gallery_bytes(self) -> int:
        """Size of the features in float32."""
        return self._gallery.nbytes

    @property
    def lat_lng_deg(self) -> Floats:
        """The coordinates of the gallery (M, 2)."""
        return self._coordinates.numpy()

    def forward(self, images: Tensor) -> NeighbourOutputs:
        """uint8 RGB (N, 3, S, S) -> the K most similar photos; fewer where the gallery has fewer."""
        return self.from_features(self.backbone(images))

    def from_features(self, features: Tensor) -> NeighbourOutputs:
        """Pooled features (N, num_features) -> the K most similar photos."""
        queries = functional.normalize(features.float()).cpu()
        with torch.autocast("cpu", enabled=False):  # 16 bits would change the order
            similarities, rows = (queries @ self._gallery.T).topk(min(self._num_neighbours, len(self._gallery)))
        coordinates = self._coordinates[rows]
        return NeighbourOutputs(similarities, rows, coordinates[..., 0], coordinates[..., 1])

    def get_extra_state(self) -> dict[str, Tensor]:
        """The gallery, for a checkpoint."""
        return {"features": self._gallery, "places": self._coordinates}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """The gallery of a checkpoint.

        Raises:
            ValueError: if it does not fit the backbone, has not a place for each photo, or is of an earlier version.
        """
        if "index" in state:  # faiss, which reads no index of strangers safely
            raise ValueError("the gallery of the checkpoint is of an earlier version; make it again with `index`")
        if not {"features", "places"} <= state.keys():
            raise ValueError("the checkpoint has no gallery of features and places; make it again with `index`")
        gallery, places = state["features"], state["places"]
        expected = [(len(places), self._gallery.shape[1]), (len(places), 2)] if places.ndim else []
        are_numbers = gallery.is_floating_point() and places.is_floating_point()
        if [gallery.shape, places.shape] != expected or not are_numbers:
            raise ValueError(
                f"the gallery of the checkpoint has features {tuple(gallery.shape)} and places {tuple(places.shape)}, "
                f"expected (photos, {self._gallery.shape[1]}) for this backbone and (photos, 2); make it again with "
                "`index`"
            )
        self._gallery, self._coordinates = gallery.float(), places.double()


def decode_neighbours(
    outputs: NeighbourOutputs, partitioning: Partitioning, *, bandwidth_km: float | None
) -> list[Place]:
    """The location of each photo, and the probability of each cell, see `places_of_neighbours`."""
    lat_deg, lng_deg = outputs.lat_deg.double().cpu().numpy(), outputs.lng_deg.double().cpu().numpy()
    similarities = outputs.similarities.cpu().numpy()
    return list(places_of_neighbours(similarities, lat_deg, lng_deg, partitioning, bandwidth_km=bandwidth_km))
