"""Settings of the geolocation task; `configs/geolocation/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tasks.common.config import EVALUATION, WITHOUT_RUN, DataConfig, TaskConfig, VerbSettings, require_size_of_name
from tasks.common.ranges import LeftOpenUnit, Positive, PositiveInt, RightOpenUnit, Settings, require

Method = Literal["classification", "retrieval"]
DECODING = ("cells.file", "combine_partitionings", "num_neighbours", "bandwidth_km")


@dataclass(frozen=True, kw_only=True)
class GeolocationDataConfig(DataConfig, group="data"):
    """Geotagged photos.

    Args:
        format: source of the coordinates; auto to look for it. csv: a file with columns for the photo's name, latitude
            and longitude, and perhaps split and author; exif: the photos' GPS data; shards: tar files of WebDataset,
            key.jpg beside key.json.
        csv: the file, relative to root; null for the one that is there.
        images: the folder of the names in it, relative to root; null to look for it.
        columns: columns that are named in another way than usual, such as {image: foto, lat: breite, lng: laenge}; also
            split and author.
        group_by: groups that such a split keeps together. place: cells of a grid, with a buffer around validation
            cells; author: photos by one author. A hash of the group's name decides.
        group_km: with place, the width of the buffer, whose photos are left out; cells are 10 times as wide.
        crop_fraction: for prediction the shorter side is scaled to input_size / crop_fraction, then the centre cropped.
    """

    format: Literal["auto", "csv", "exif", "shards"] = "auto"
    csv: str | None = None
    images: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    val_fraction: LeftOpenUnit | None = 0.1
    group_by: Literal["place", "author"] = "place"
    group_km: Positive = 1.0
    crop_fraction: LeftOpenUnit = 0.875


@dataclass(frozen=True, kw_only=True)
class CellsConfig(Settings, group="cells"):
    """Partitioning of the Earth; the defaults are PlaNet's.

    Args:
        max_photos: a cell with more training photos is split into four. Several limits, the largest first, make
            several partitionings, coarse to fine, each with its own outputs.
        min_photos: a cell with fewer is dropped, and its photos are not used for training.
        file: use the cells of this file (a run's cells.csv); null to make them from the training photos.
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
            from `index`, or computed by `evaluate` with --pretrained instead of --run.
        data: the photos.
        cells: the partitioning of the Earth, for classification.
        combine_partitionings: multiply a cell's probability by those of the coarser cells that contain it.
        num_neighbours: of retrieval.
        bandwidth_km: predict the mode of a Gaussian kernel density over cells or neighbours, with this standard
            deviation; null for the centroid of the most probable cell, or the location of the most similar photo.
        min_crop_area: smallest area of a training crop, as a fraction of the photo.
        label_smoothing: fraction of the true cell's probability that is spread over all cells in training.
        thresholds_km: the scores are the fractions of photos located within each of these distances.
        score_km: the threshold of the score by which the best checkpoint is chosen.
        exact: predict the coordinates too, not only the region; see the README on responsible use.
    """

    ARCHITECTURE: ClassVar[tuple[str, ...]] = (*TaskConfig.ARCHITECTURE, "method")
    BUILT_IN: ClassVar[tuple[str, ...]] = (*TaskConfig.BUILT_IN, "combine_partitionings", "num_neighbours")
    ACTS_IN: ClassVar[VerbSettings] = {
        "evaluate": (*DECODING, "method", "thresholds_km", "score_km"),
        "evaluate" + WITHOUT_RUN: ("backbone",),
        "predict": (*DECODING, "data.input_size", "data.crop_fraction", "exact"),
        "predict" + WITHOUT_RUN: (*EVALUATION, "backbone", "method"),
        "export": (*DECODING, "thresholds_km", "score_km", "exact"),
        "export" + WITHOUT_RUN: ("backbone", "method"),
        "cost": ("method", "cells.max_photos"),
        "benchmark": ("method", "cells.max_photos"),
        # The last five are kept for evaluate and predict.
        "index": (
            *(*EVALUATION, "pretrained", "backbone"),
            *("num_neighbours", "bandwidth_km", "thresholds_km", "score_km", "exact"),
        ),
    }

    method: Method = "classification"
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
