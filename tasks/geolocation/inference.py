"""Geolocation without a network: data, inputs, metric, maps and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.geolocation.sphere import distance_km
from datasets.images.read import Decoding, write_image
from datasets.pillow_resizing import center_crop
from datasets.sources import Preprocess
from datasets.splits import SplitData
from datasets.types import Image, Place, Split
from tasks.common.agreement import Agreement, divergence
from tasks.common.inference_task import FailureCase, InferenceTask
from tasks.geolocation.cells import Partitioning, read_cells, write_cells
from tasks.geolocation.config import GeolocationConfig, Method
from tasks.geolocation.data import drop_outside, open_data
from tasks.geolocation.draw import draw_cells, draw_regions
from tasks.geolocation.map import CellMap, format_coordinates, format_length
from tasks.geolocation.metric import GeolocationMetric, within
from tasks.geolocation.places import places_of_cells, places_of_points
from tasks.geolocation.regions import (
    Region,
    all_regions,
    most_probable_regions,
    region_probabilities,
    regions_as_columns,
)

CELLS = Path("cells.csv")
NUM_SUMMARIZED_REGIONS = 3  # in a line


class GeolocationInference(InferenceTask[Place]):
    """Where a photo was taken."""

    name = "geolocation"
    metadata_keys = ("method", "partitionings", "guesses")
    score_name: str

    def __init__(self, config: GeolocationConfig, metadata: Mapping[str, Any]) -> None:
        """A task for given cells.

        Args:
            config: settings.
            metadata: `method`; `partitionings`, coarse to fine; `guesses`, candidates for the constant prediction.

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
        if config.cells.file is not None:
            _check_same_cells(config.cells.file, self.partitionings)

    @classmethod
    def check_metadata(cls, metadata: Mapping[str, Any]) -> None:
        """Read the method, all cells and coordinates."""
        if metadata["method"] not in get_args(Method):
            raise ValueError("its method is unknown")
        if not [Partitioning.from_json(columns) for columns in metadata["partitionings"]]:
            raise ValueError("there are no cells")
        np.array(metadata["guesses"], float).reshape(-1, 2)

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

    def preprocessing(self) -> Preprocess:
        """The centre of the photo, scaled."""
        data = self.config.data
        return partial(center_crop, input_size=data.input_size, crop_fraction=data.crop_fraction)

    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[Place]:
        """A location and the probability of each cell for each photo."""
        probabilities, bandwidth_km = outputs["probabilities"], self.config.bandwidth_km
        if self.config.method == "classification":
            return list(places_of_cells(probabilities, self.partitionings[-1], bandwidth_km=bandwidth_km))
        points = [outputs[f"neighbour_{name}"] for name in ("weights", "lat_deg", "lng_deg")]
        return list(places_of_points(probabilities, *points, bandwidth_km=bandwidth_km))

    def agreement(self, reference: Sequence[Place], predicted: Sequence[Place]) -> Agreement:
        """The fraction of photos with the same cell, and the divergence of the probabilities."""
        p, q = (np.array([place.probabilities for place in places], np.float32) for places in (reference, predicted))
        return Agreement(float((p.argmax(1) == q.argmax(1)).mean()), divergence(p, q))

    @property
    def agreement_caveat(self) -> str | None:
        """A photo's nearest neighbour in the gallery is itself."""
        is_gallery = self.config.method == "retrieval"
        return "too high, since these training photos are in the gallery" if is_gallery else None

    def predictor_settings(self) -> dict[str, Any]:
        """The preprocessing and the names, see `InferenceTask`."""
        crop = {"resize": "center_crop", "crop_fraction": self.config.data.crop_fraction}
        regions, region_of_cell = all_regions(self.partitionings[-1])
        described = [{"name": region.name, "lat_deg": region.lat_deg, "lng_deg": region.lng_deg} for region in regions]
        settings = super().predictor_settings() | crop | {"regions": described, "region_of_cell": region_of_cell}
        if self.config.exact:
            columns = self.partitionings[-1].to_json()
            cells = {name: columns[name] for name in ("cell", "lat_deg", "lng_deg")}
            settings["exact"] = cells | {"bandwidth_km": self.config.bandwidth_km}
        return settings

    def label_sizes(self) -> dict[str, tuple[int, int]]:
        """A value for each cell, of the finest ones with the postprocessing, see `InferenceTask`."""
        return {"logits": (1, sum(map(len, self.partitionings))), "probabilities": (1, len(self.partitionings[-1]))}

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


def _check_same_cells(file: str, partitionings: Sequence[Partitioning]) -> None:
    from_file = read_cells(Path(file))
    if [p.cells.tolist() for p in from_file] != [p.cells.tolist() for p in partitionings]:
        raise ValueError(
            f"cells.file: {file} has the {_count(from_file)} cells of another model; this one has "
            f"{_count(partitionings)} of its own, and needs no file (--cells.file null)"
        )


def _count(partitionings: Sequence[Partitioning]) -> str:
    return " + ".join(str(len(partitioning)) for partitioning in partitionings)
