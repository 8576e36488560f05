"""The geolocation task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone.weights import Weights
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.geolocation.sphere import Floats, distance_km
from datasets.images.read import Decoding, write_image
from datasets.loader import Collate, Preprocess
from datasets.resizing import center_crop
from datasets.splits import MissingSplitError, SplitData
from datasets.transforms import CropAugmentation
from datasets.types import Image, Place, Split
from tasks.common.evaluation.features import pooled_features
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.device import setup_device
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import FailureCase, Task
from tasks.geolocation.cells import Partitioning, read_cells, write_cells
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.data import drop_outside, open_data
from tasks.geolocation.draw import draw_cells, draw_regions
from tasks.geolocation.loss import CellTargets, cell_loss, cell_targets
from tasks.geolocation.map import CellMap, format_coordinates, format_length
from tasks.geolocation.method import METHODS
from tasks.geolocation.metric import GeolocationMetric, within
from tasks.geolocation.regions import Region, most_probable_regions, region_probabilities, regions_as_columns
from tasks.geolocation.retrieval import Im2GPS

PAPER_NUM_CELLS = 9560  # 1025 parameters each: the 10 M that section 4.4 gives the head; PlaNet itself has 26,263 cells
CELLS = Path("cells.csv")
NUM_SUMMARIZED_REGIONS = 3  # in a line
NUM_CANDIDATES = 1000  # training photos whose coordinates are candidates for the best constant prediction


class GeolocationTask(Task[Place]):
    """PlaNet or Im2GPS."""

    name = "geolocation"
    score_name: str

    def __init__(
        self, config: GeolocationConfig, metadata: Mapping[str, Any], gallery: GeotaggedPhotos | None = None
    ) -> None:
        """A task for given cells.

        Args:
            config: settings.
            metadata: `method`; `partitionings`, coarse to fine; `guesses`, candidates for the constant prediction.
            gallery: photos that a new network of retrieval is filled with; None for a network of a checkpoint.

        Raises:
            ValueError: if the settings have another method, or `cells.file` other cells, than the metadata.
        """
        if config.method != metadata["method"]:
            raise ValueError(
                f"method: the run is of {metadata['method']}; to search with the features of a run give it as "
                "--pretrained with --method retrieval, instead of --run"
            )
        super().__init__(config, metadata)
        self.score_name = within(config.score_km)
        self.partitionings = [Partitioning.from_json(columns) for columns in metadata["partitionings"]]
        self._method = METHODS[config.method](config)
        self._gallery = gallery
        if config.cells.file is not None:
            _check_same_cells(config.cells.file, self.partitionings)

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

    def _open_data(self) -> SplitData[GeotaggedPhotos]:
        return drop_outside(open_data(self.config), self.partitionings)

    def source(self, split: Split) -> GeotaggedPhotos:
        """The photos of a split; for training, those in a cell of a partitioning.

        Raises:
            MissingSplitError: if there are none.
            ValueError: if they cannot be read.
        """
        source: GeotaggedPhotos = self.data[split]
        data = self.config.data
        source.decoding = Decoding(2 * data.input_size, data.pixel_range)  # no crop of a larger photo has more detail
        return source

    def augmentation(self) -> CropAugmentation:
        """A random crop; no mirroring, since the sun, traffic and writing are not symmetric."""
        size, area = self.config.data.input_size, self.config.min_crop_area
        return CropAugmentation(size, min_crop_area=area, randaugment_ops=0, may_mirror=False)

    def classes_of(self, truths: Sequence[Place]) -> list[list[int]]:
        """The cell of each photo in the finest partitioning, if it is in one."""
        lat_deg, lng_deg = (np.array([getattr(truth, name) for truth in truths]) for name in ("lat_deg", "lng_deg"))
        return [[cell] if cell >= 0 else [] for cell in self.partitionings[-1].find(lat_deg, lng_deg).tolist()]

    def preprocessing(self) -> Preprocess:
        """The centre of the photo, scaled."""
        data = self.config.data
        return partial(center_crop, input_size=data.input_size, crop_fraction=data.crop_fraction)

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

    def metric(self) -> GeolocationMetric:
        """Fractions of photos within distances, beside the best constant prediction."""
        candidates = np.array(self.metadata["guesses"], float).reshape(-1, 2).T
        return GeolocationMetric(self.config.thresholds_km, (candidates[0], candidates[1]))

    def failure_case(self, predicted: Place, truth: Place) -> FailureCase[Place] | None:
        """A prediction further away than `score_km`; its confidence is the probability of its cell."""
        error_km = float(distance_km(predicted.lat_deg, predicted.lng_deg, truth.lat_deg, truth.lng_deg))
        if error_km <= self.config.score_km or predicted.probabilities is None:
            return None
        return FailureCase(float(predicted.probabilities.max()), f"{format_length(error_km)} away", predicted)

    def draw(self, image: Image, predicted: Place, truth: Place | None = None) -> Image:
        """The photo beside a map of the regions; with a truth or `exact`, of the cells."""
        if truth is None and not self.config.exact:
            probabilities = region_probabilities(predicted, self.partitionings[-1])
            return draw_regions(image, probabilities, self._regions(predicted), self._map)
        return draw_cells(image, predicted, truth, self._map)

    def describe(self, predicted: Place, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The most probable regions; with `exact` also the coordinates and the cell."""
        regions = {"regions": [region._asdict() for region in self._regions(predicted)]}
        if not self.config.exact:
            return regions
        assert predicted.cell_id is not None
        return regions | {
            "lat_deg": round(predicted.lat_deg, 5),
            "lng_deg": round(predicted.lng_deg, 5),
            "cell": self.metadata["partitionings"][-1]["cell"][predicted.cell_id],
            "probability": round(self._probability(predicted), 4),
        }

    def summarize(self, predicted: Sequence[Place]) -> str:
        """The most probable regions; with `exact` the coordinates, such as "48.857 N, 2.352 E (0.24)"."""
        place = predicted[0]
        if self.config.exact:
            return f"{format_coordinates(place.lat_deg, place.lng_deg)} ({self._probability(place):.2f})"
        best = self._regions(place)[:NUM_SUMMARIZED_REGIONS]
        return ", ".join(f"{region.name} {region.probability:.2f}" for region in best)

    def table(self, predicted: Sequence[Place]) -> dict[str, NDArray[Any]]:
        """A row for each of the most probable regions; with `exact` one for the place."""
        place = predicted[0]
        if self.config.exact:
            row = {"lat_deg": place.lat_deg, "lng_deg": place.lng_deg, "probability": self._probability(place)}
            return {name: np.array([value], np.float64) for name, value in row.items()}
        return regions_as_columns(self._regions(place))

    def write_metadata(self, folder: Path) -> None:
        """The cells as a table, and a map of them."""
        write_cells(folder / CELLS, self.partitionings)
        write_image(folder / CELLS.with_suffix(".png"), self._map.draw(None))

    @cached_property
    def _map(self) -> CellMap:
        return CellMap(self.partitionings[-1])

    def _regions(self, predicted: Place) -> list[Region]:
        return most_probable_regions(predicted, self.partitionings[-1])

    @staticmethod
    def _probability(predicted: Place) -> float:
        """Of the most probable cell."""
        assert predicted.probabilities is not None
        assert predicted.cell_id is not None
        return float(predicted.probabilities[predicted.cell_id])


def _metadata(method: str, partitionings: Sequence[Partitioning], coordinates: Floats) -> dict[str, Any]:
    """See `GeolocationTask`; coordinates: (N, 2) of the training photos, latitude and longitude."""
    rows = np.random.default_rng(0).permutation(len(coordinates))[:NUM_CANDIDATES]
    candidates = coordinates[np.sort(rows)].tolist()
    return {"method": method, "partitionings": [p.to_json() for p in partitionings], "guesses": candidates}


def _check_same_cells(file: str, partitionings: Sequence[Partitioning]) -> None:
    from_file = read_cells(Path(file))
    if [p.cells.tolist() for p in from_file] != [p.cells.tolist() for p in partitionings]:
        raise ValueError(
            f"cells.file: {file} has the {_count(from_file)} cells of another model; this one has "
            f"{_count(partitionings)} of its own, and needs no file (--cells.file null)"
        )


def _count(partitionings: Sequence[Partitioning]) -> str:
    return " + ".join(str(len(partitioning)) for partitioning in partitionings)
