"""Settings of the geolocation task; `configs/geolocation/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.common.config import TaskConfig, require_size_of_name
from tasks.common.ranges import InputSize, LeftOpenUnit, Positive, PositiveInt, RightOpenUnit, Settings, require


@dataclass(frozen=True, kw_only=True)
class GeolocationDataConfig(Settings, group="data"):
    """Photos with a place each.

    Args:
        root: folder of the data; null for the drawn sample.
        name: where places come from. csv: a file with the columns IMG_ID, LAT, LON, and perhaps split and AUTHOR; exif:
            the photos' own GPS data; shards: tar files of WebDataset, key.jpg beside key.json.
        csv: the file, below root.
        images: the folder below root that IMG_ID is below.
        val_fraction: expected fraction of the photos, where the data have no split of their own; 1 takes all for
            validation.
        group_by: what such a split goes by: place, whole cells of a grid with a buffer around those for validation; or
            author. A hash of the cell or of the author's name decides.
        group_km: with places, the width of the buffer, whose photos are left out; cells are 10 times as wide.
        input_size: side of the network's square input in pixels; free at test time too.
        crop_fraction: for prediction the shorter side is scaled to input_size / crop_fraction, and the centre cut out.
    """

    root: str | None = None
    name: Literal["csv", "exif", "shards"] = "csv"
    csv: str = "places.csv"
    images: str = "images"
    val_fraction: LeftOpenUnit = 0.1
    group_by: Literal["place", "author"] = "place"
    group_km: Positive = 1.0
    input_size: InputSize = 224
    crop_fraction: LeftOpenUnit = 0.875


@dataclass(frozen=True, kw_only=True)
class CellsConfig(Settings, group="cells"):
    """How the Earth is divided; PlaNet's numbers are the defaults.

    Args:
        max_photos: a cell with more training photos is split into four. Several numbers, the largest first, make
            several partitionings, coarse to fine, each with outputs of its own on one forward pass.
        min_photos: a cell with fewer is dropped, and its photos are not learnt from.
        file: take the cells of this file (a run's cells.csv) instead of dividing the training photos; null to divide.
    """

    max_photos: tuple[PositiveInt, ...] = (10_000,)
    min_photos: PositiveInt = 50
    file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = list(self.max_photos)
        is_descending = bool(limits) and limits == sorted(set(limits), reverse=True)
        require(is_descending, "cells.max_photos", "positive numbers, the largest first", limits)


@dataclass(frozen=True, kw_only=True)
class GeolocationConfig(TaskConfig):
    """PlaNet on MobileNet (Howard et al. 2017, section 4.4, Table 11), and the Im2GPS baseline.

    Args:
        method: classification: a softmax over cells (PlaNet); retrieval: the most similar training photos (Im2GPS),
            from `index`, or found anew by `evaluate` where --backbone.pretrained is given instead of --run.
        data: the photos.
        cells: how the Earth is divided, for classification.
        combine_partitionings: a cell's probability is multiplied by those of the coarser cells around it.
        num_neighbours: of retrieval.
        bandwidth_km: the predicted place is where cells or neighbours are densest, seen through a bell of this
            deviation; null for the mean place of the most probable cell, or the most similar photo's place.
        min_crop_area: smallest share of the photo that a training crop has.
        label_smoothing: share of the true cell's probability that is spread over all cells in training.
        thresholds_km: the score is the share of photos that are placed within each of these distances.
        score_km: the one of them by which the best checkpoint is chosen.
        exact: predict names the point too, not only the region; see the README on responsible use.
    """

    method: Literal["classification", "retrieval"] = "classification"
    data: GeolocationDataConfig = field(default_factory=GeolocationDataConfig)
    cells: CellsConfig = field(default_factory=CellsConfig)
    combine_partitionings: bool = True
    num_neighbours: PositiveInt = 10
    bandwidth_km: Positive | None = None
    min_crop_area: LeftOpenUnit = 0.35
    label_smoothing: RightOpenUnit = 0.0
    thresholds_km: tuple[Positive, ...] = (1, 25, 200, 750, 2500)
    score_km: float = 750
    exact: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.score_km in self.thresholds_km, "score_km", f"one of thresholds_km {self.thresholds_km}", self.score_km
        )
        require_size_of_name(self.backbone, self.data.input_size)
