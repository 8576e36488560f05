"""The geolocation task: its models and loss; data, metric and maps are in `inference.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor, nn

from backbone.weights import Weights
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.geolocation.sphere import Floats
from datasets.loader import Collate
from datasets.splits import MissingSplitError, SplitData
from datasets.transforms import CropAugmentation
from datasets.types import Place
from tasks.common.evaluation.features import pooled_features
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.device import setup_device
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task
from tasks.geolocation.cells import Partitioning
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.data import drop_outside, open_data
from tasks.geolocation.inference import GeolocationInference
from tasks.geolocation.loss import CellTargets, cell_loss, cell_targets
from tasks.geolocation.method import METHODS
from tasks.geolocation.retrieval import Im2GPS

if TYPE_CHECKING:
    from onnx import GraphProto


PAPER_NUM_CELLS = 9560  # 1025 parameters each: the 10 M that section 4.4 gives the head; PlaNet itself has 26,263 cells
NUM_CANDIDATES = 1000  # training photos whose coordinates are candidates for the best constant prediction


class GeolocationTask(GeolocationInference, Task[Place]):
    """PlaNet or Im2GPS."""

    def __init__(
        self, config: GeolocationConfig, metadata: Mapping[str, Any], gallery: GeotaggedPhotos | None = None
    ) -> None:
        """A task for given cells.

        Args:
            config: settings.
            metadata: see `GeolocationInference`.
            gallery: photos that a new network of retrieval is filled with; None for a network of a checkpoint.
        """
        super().__init__(config, metadata)
        self._method = METHODS[config.method](config)
        self._gallery = gallery

    @classmethod
    def from_data(cls, config: GeolocationConfig) -> Self:
        """The task for cells of the training photos.

        Raises:
            ValueError: if the method is not trained.
        """
        if not METHODS[config.method].is_trained:
            raise ValueError(
                f"method: {config.method} is not trained; `index` stores the features of the training photos"
            )
        return cls._from_photos(config, open_data(config))

    @classmethod
    def with_num_classes(cls, config: GeolocationConfig, num_classes: int | None) -> Self:
        """The task for a number of cells in each partitioning; by default the paper's."""
        leaf_ids = 2 * np.arange(num_classes or PAPER_NUM_CELLS) + 1  # arbitrary
        zeros = np.zeros(len(leaf_ids))
        partitioning = Partitioning(leaf_ids.astype(np.uint64), zeros, zeros, zeros.astype(np.int64))
        return cls(config, _metadata(config.method, [partitioning for _ in config.cells.max_photos], np.zeros((0, 2))))

    @classmethod
    def from_pretrained(cls, config: GeolocationConfig, weights: Weights) -> Self:
        """The task of the weights, or of searching the training photos by their features.

        Raises:
            ValueError: if the method is trained, and the weights are of no run of it.
        """
        if METHODS[config.method].is_trained:
            return super().from_pretrained(config, weights)
        return cls.with_gallery(config)

    @classmethod
    def with_gallery(cls, config: GeolocationConfig) -> Self:
        """The task of searching the training photos by the features of the configured weights."""
        data = open_data(config)
        return cls._from_photos(config, data, gallery=data["train"])

    @classmethod
    def _from_photos(
        cls, config: GeolocationConfig, data: SplitData[GeotaggedPhotos], gallery: GeotaggedPhotos | None = None
    ) -> Self:
        photos = data["train"]
        partitionings = METHODS[config.method](config).partition(photos)
        coordinates = np.stack([photos.lat_deg, photos.lng_deg], 1)
        task = cls(config, _metadata(config.method, partitionings, coordinates), gallery)
        task._data = drop_outside(data, task.partitionings)
        try:
            task.source("train")
        except MissingSplitError as error:
            raise ValueError(f"cells.file: no training photo is in one of the cells of {config.cells.file}") from error
        return task

    def build_model(self) -> nn.Module:
        """The network with the configured weights, and for retrieval the features of the gallery."""
        backbone = build_pretrained(self.config, open_pretrained(self.config, self.name))
        model = self._method.build_model(backbone, self.partitionings)
        if self._gallery is not None:
            assert isinstance(model, Im2GPS)
            backbone.to(setup_device(self.config.loop))
            features = pooled_features(self, backbone, self._gallery, "features of the gallery")
            model.fill(features.values, self._gallery.lat_deg[features.rows], self._gallery.lng_deg[features.rows])
        return model

    def augmentation(self) -> CropAugmentation:
        """A random crop; no mirroring, since the sun, traffic and writing are not symmetric."""
        size, area = self.config.data.input_size, self.config.min_crop_area
        return CropAugmentation(size, min_crop_area=area, randaugment_ops=0, may_mirror=False)

    def classes_of(self, truths: Sequence[Place]) -> list[list[int]]:
        """The cell of each photo in the finest partitioning, if it is in one."""
        lat_deg, lng_deg = (np.array([getattr(truth, name) for truth in truths]) for name in ("lat_deg", "lng_deg"))
        return [[cell] if cell >= 0 else [] for cell in self.partitionings[-1].find(lat_deg, lng_deg).tolist()]

    def collate(self) -> Collate[Place]:
        """The true cells of the photos."""
        return partial(cell_targets, partitionings=self.partitionings)

    def loss(self, outputs: Any, targets: CellTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Cross-entropy over cells."""
        sizes = [len(partitioning) for partitioning in self.partitionings]
        return cell_loss(outputs, targets, sizes, label_smoothing=self.config.label_smoothing, world=world)

    def decode(self, outputs: Any) -> list[Place]:
        """A location and the probability of each cell for each photo."""
        return self._method.decode(outputs, self.partitionings)

    def postprocessing(self, network: nn.Module) -> GraphProto:
        """The probabilities of the finest cells, and for retrieval the neighbours."""
        return self._method.postprocessing(network, self.partitionings)


def _metadata(method: str, partitionings: Sequence[Partitioning], coordinates: Floats) -> dict[str, Any]:
    """See `GeolocationTask`; coordinates: (N, 2) of the training photos, latitude and longitude."""
    rows = np.random.default_rng(0).permutation(len(coordinates))[:NUM_CANDIDATES]
    candidates = coordinates[np.sort(rows)].tolist()
    return {"method": method, "partitionings": [p.to_json() for p in partitionings], "guesses": candidates}
