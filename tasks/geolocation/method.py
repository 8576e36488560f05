"""The two methods, PlaNet (`model.py`) and Im2GPS (`retrieval.py`), behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from backbone.base import Backbone
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.types import Place
from tasks.common.model.logits import Logits
from tasks.geolocation.cells import Partitioning, divide, read_cells
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.model import PlaNet, decode_cells
from tasks.geolocation.onnx_postprocess import cell_probabilities, neighbour_probabilities
from tasks.geolocation.retrieval import Im2GPS, NeighbourOutputs, decode_neighbours

if TYPE_CHECKING:
    from onnx import GraphProto

GALLERY_CELLS = 200  # approximate number of cells of a retrieval
MAX_GALLERY_BYTES = 1.8e9  # in a file of at most 2 GB


class Method(ABC):
    """One way to locate photos.

    Attributes:
        is_trained: `train` makes the network; otherwise `index` does, from pretrained weights.
    """

    is_trained: bool

    def __init__(self, config: GeolocationConfig) -> None:
        self.config = config

    @abstractmethod
    def partition(self, photos: GeotaggedPhotos) -> list[Partitioning]:
        """Partitionings of the training photos, coarse to fine."""

    @abstractmethod
    def build_model(self, backbone: Backbone, partitionings: Sequence[Partitioning]) -> nn.Module:
        """The network above a backbone: with a random head, or an empty gallery."""

    @abstractmethod
    def decode(self, outputs: Any, partitionings: Sequence[Partitioning]) -> list[Place]:
        """A location and the probability of each cell for each photo."""

    @abstractmethod
    def postprocessing(self, network: Any, partitionings: Sequence[Partitioning]) -> GraphProto:
        """See `Task.postprocessing`."""


class Classification(Method):
    """PlaNet: a softmax over cells."""

    is_trained = True

    def partition(self, photos: GeotaggedPhotos) -> list[Partitioning]:
        """The cells of `cells.file`, or new ones.

        Raises:
            ValueError: if all photos are in one cell.
        """
        cells = self.config.cells
        if cells.file is not None:
            return read_cells(Path(cells.file))
        partitionings = divide(photos.lat_deg, photos.lng_deg, max_photos=cells.max_photos, min_photos=cells.min_photos)
        if len(partitionings[-1]) < 2:
            raise ValueError(
                f"cells.max_photos: with {cells.max_photos[-1]} the {len(photos)} training photos are in one cell, "
                "which leaves nothing to classify; a smaller value makes more cells"
            )
        return partitionings

    def build_model(self, backbone: Backbone, partitionings: Sequence[Partitioning]) -> PlaNet:
        """One logit for each cell of each partitioning."""
        return PlaNet(backbone, sum(map(len, partitionings)))

    def decode(self, outputs: Logits, partitionings: Sequence[Partitioning]) -> list[Place]:
        """From the probabilities of the finest cells."""
        combine, bandwidth_km = self.config.combine_partitionings, self.config.bandwidth_km
        return decode_cells(outputs, partitionings, combine=combine, bandwidth_km=bandwidth_km)

    def postprocessing(self, network: PlaNet, partitionings: Sequence[Partitioning]) -> GraphProto:
        """The probabilities of the finest cells."""
        return cell_probabilities(partitionings, combine=self.config.combine_partitionings)


class Retrieval(Method):
    """Im2GPS: the coordinates of the most similar training photos; cells are only for the map and the regions."""

    is_trained = False

    def partition(self, photos: GeotaggedPhotos) -> list[Partitioning]:
        """One partitioning, in which every photo is in a cell."""
        max_photos = max(1, len(photos) // GALLERY_CELLS)
        return divide(photos.lat_deg, photos.lng_deg, max_photos=(max_photos,), min_photos=1)

    def build_model(self, backbone: Backbone, partitionings: Sequence[Partitioning]) -> Im2GPS:
        """An empty gallery."""
        return Im2GPS(backbone, self.config.num_neighbours)

    def decode(self, outputs: NeighbourOutputs, partitionings: Sequence[Partitioning]) -> list[Place]:
        """From the similarities of the neighbours."""
        return decode_neighbours(outputs, partitionings[-1], bandwidth_km=self.config.bandwidth_km)

    def postprocessing(self, network: Im2GPS, partitionings: Sequence[Partitioning]) -> GraphProto:
        """The neighbours, and the probabilities of the cells.

        Raises:
            ValueError: if the gallery is too large for an ONNX file.
        """
        num_bytes = network.gallery_bytes
        if num_bytes > MAX_GALLERY_BYTES:
            raise ValueError(
                f"method: the features of the gallery have {num_bytes / 1e9:.1f} GB, and an ONNX file holds "
                f"{MAX_GALLERY_BYTES / 1e9:.1f}; index fewer photos, or features of a narrower backbone"
            )
        return neighbour_probabilities(network.lat_lng_deg, partitionings[-1])


METHODS: dict[str, type[Method]] = {"classification": Classification, "retrieval": Retrieval}
