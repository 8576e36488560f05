"""The parts of geolocation, named in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from datasets.coordinates import read_csv, read_exif
from datasets.geotagged import GeotaggedPhotos, split_photos
from datasets.images import write_image
from datasets.loader import Collate, Preprocess
from datasets.sample.geolocation import sample_root
from datasets.shards import read_shards
from datasets.sphere import Floats, distance_km
from datasets.transforms import CropAugmentation, center_crop
from datasets.types import Image, Place, Split
from tasks.common.evaluation.features import pooled_features
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.device import open_device
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import FailureCase, Task
from tasks.geolocation.cells import Partitioning, divide, read_cells, write_cells
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.draw import draw_cells, draw_regions
from tasks.geolocation.loss import CellTargets, cell_loss, cell_targets
from tasks.geolocation.map import CellMap, format_length
from tasks.geolocation.metric import GeolocationMetric, within
from tasks.geolocation.model import PlaNet, decode_cells
from tasks.geolocation.regions import Region, most_probable_regions, region_probabilities
from tasks.geolocation.retrieval import Im2GPS, decode_neighbours

PAPER_NUM_CELLS = 9560  # 1025 parameters each: the 10 M that section 4.4 gives the head; PlaNet itself has 26,263 cells
CELLS = Path("cells.csv")
GALLERY_CELLS = 200  # about, that the photos of retrieval are sorted into
NUM_GUESSES = 1000  # training places that the constant guess is chosen from
Splits = dict[Split, GeotaggedPhotos]


class GeolocationTask(Task[Place]):
    """PlaNet or Im2GPS."""

    name = "geolocation"
    score_name: str

    def __init__(self, config: GeolocationConfig, metadata: Mapping[str, Any]) -> None:
        """A task for cells that are known.

        Args:
            config: settings.
            metadata: `method`; `partitionings`, coarse to fine; `guesses`, some training places.

        Raises:
            ValueError: if the settings have another method, or `cells.file` other cells, than the metadata.
        """
        if config.method != metadata["method"]:
            raise ValueError(
                f"method: the run is of {metadata['method']}; to search with the features of a run give it as "
                "--backbone.pretrained with --method retrieval, instead of --run"
            )
        super().__init__(config, metadata)
        self.score_name = within(config.score_km)
        self.partitionings = [Partitioning.from_json(columns) for columns in metadata["partitionings"]]
        self._splits: Splits | None = None  # read once, when they are needed
        self._fills_gallery = False  # a run brings its own
        if config.cells.file is not None:
            _check_same_cells(config.cells.file, self.partitionings)

    @classmethod
    def from_data(cls, config: GeolocationConfig) -> Self:
        """The task for cells of the training photos.

        Raises:
            ValueError: if the method is retrieval, which does not learn.
        """
        if config.method == "retrieval":
            raise ValueError("method: retrieval learns nothing; `index` keeps the training photos' features")
        splits, cells = _read_splits(config), config.cells
        if cells.file is not None:
            return cls._from_splits(config, splits, read_cells(Path(cells.file)))
        photos = _one_of(splits, "train")
        partitionings = divide(photos.lat_deg, photos.lng_deg, max_photos=cells.max_photos, min_photos=cells.min_photos)
        if len(partitionings[-1]) < 2:
            raise ValueError(
                f"cells.max_photos: with {cells.max_photos[-1]} the {len(photos)} training photos are in one cell, and "
                "there is nothing to learn; a smaller number makes more cells"
            )
        return cls._from_splits(config, splits, partitionings)

    @classmethod
    def _from_splits(cls, config: GeolocationConfig, splits: Splits, partitionings: Sequence[Partitioning]) -> Self:
        photos = _one_of(splits, "train")
        places = np.stack([photos.lat_deg, photos.lng_deg], 1)
        task = cls(config, _metadata(config.method, partitionings, places))
        task._splits = task._learnable(splits)
        if "train" not in task._splits:
            raise ValueError(f"cells.file: no training photo is in one of the cells of {config.cells.file}")
        return task

    @classmethod
    def with_num_classes(cls, config: GeolocationConfig, num_classes: int | None) -> Self:
        """The task for so many cells in each partitioning; by default the paper's number."""
        odd = 2 * np.arange(num_classes or PAPER_NUM_CELLS) + 1  # ids of smallest cells, for want of others
        zero = np.zeros(len(odd))
        some = Partitioning(odd.astype(np.uint64), zero, zero, zero.astype(np.int64))
        return cls(config, _metadata(config.method, [some for _ in config.cells.max_photos], np.zeros((0, 2))))

    @classmethod
    def from_published(cls, config: GeolocationConfig) -> Self:
        """The task of searching the training photos with published weights.

        Raises:
            ValueError: if the method is classification, of which there are no published weights.
        """
        if config.method == "classification":
            raise ValueError(
                "--run: expected a run folder; there are no published weights of PlaNet on MobileNet (--method "
                "retrieval needs none)"
            )
        splits = _read_splits(config)
        photos = _one_of(splits, "train")
        # Nothing is learnt of these cells: they are for the map and the regions, and every photo is in one.
        limit = max(1, len(photos) // GALLERY_CELLS)
        cells = divide(photos.lat_deg, photos.lng_deg, max_photos=(limit,), min_photos=1)
        task = cls._from_splits(config, splits, cells)
        task._fills_gallery = True
        return task

    def build_model(self) -> PlaNet | Im2GPS:
        """The network with the configured weights; retrieval's with its gallery, if the task was made from photos."""
        backbone = build_pretrained(self.config, open_pretrained(self.config))
        if self.config.method == "classification":
            return PlaNet(backbone, sum(map(len, self.partitionings)))
        model = Im2GPS(backbone, self.config.num_neighbours)
        if self._fills_gallery:
            photos = self.source("train")
            features = pooled_features(
                self, backbone.to(open_device(self.config.loop)), photos, "features of the gallery"
            )
            model.fill(features.values, photos.lat_deg[features.rows], photos.lng_deg[features.rows])
        return model

    def source(self, split: Split) -> GeotaggedPhotos:
        """The photos of a split; for training, those that are in a cell of some partitioning.

        Raises:
            ValueError: if they cannot be read, or none is in a cell.
        """
        if self._splits is None:
            self._splits = self._learnable(_read_splits(self.config))
        return _one_of(self._splits, split)

    def augmentation(self) -> CropAugmentation:
        """A random part of the photo; not mirrored, since the sun, the traffic and writing are not either."""
        size, area = self.config.data.input_size, self.config.min_crop_area
        return CropAugmentation(size, min_crop_area=area, randaugment_ops=0, may_mirror=False)

    def preprocessing(self) -> Preprocess:
        """The centre of the photo, scaled."""
        data = self.config.data
        return partial(center_crop, input_size=data.input_size, crop_fraction=data.crop_fraction)

    def collate(self) -> Collate[Place]:
        """The cells that the photos were taken in."""
        return partial(cell_targets, partitionings=self.partitionings)

    def loss(self, outputs: Any, targets: CellTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Cross-entropy over cells."""
        sizes = [len(partitioning) for partitioning in self.partitionings]
        return cell_loss(outputs, targets, sizes, label_smoothing=self.config.label_smoothing, world=world)

    def decode(self, outputs: Any) -> list[Place]:
        """A place for each photo, and each cell's probability."""
        config = self.config
        if config.method == "retrieval":
            return decode_neighbours(outputs, self.partitionings[-1], bandwidth_km=config.bandwidth_km)
        combine = config.combine_partitionings
        return decode_cells(outputs, self.partitionings, combine=combine, bandwidth_km=config.bandwidth_km)

    def metric(self) -> GeolocationMetric:
        """Shares within distances, beside the best constant guess."""
        guesses = np.array(self.metadata["guesses"], float).reshape(-1, 2).T
        return GeolocationMetric(self.config.thresholds_km, (guesses[0], guesses[1]))

    def failure_case(self, predicted: Place, truth: Place) -> FailureCase[Place] | None:
        """A place further away than `score_km`, as confident as its cell is probable."""
        away_km = float(distance_km(predicted.lat_deg, predicted.lng_deg, truth.lat_deg, truth.lng_deg))
        if away_km <= self.config.score_km or predicted.probabilities is None:
            return None
        return FailureCase(float(predicted.probabilities.max()), f"{format_length(away_km)} away", predicted)

    def draw(self, image: Image, predicted: Place, truth: Place | None = None) -> Image:
        """The photo beside a map: of the regions, or where the truth is known anyway or with `exact`, of the cells."""
        if truth is None and not self.config.exact:
            coarse = region_probabilities(predicted, self.partitionings[-1])
            return draw_regions(image, self._map.draw(coarse), self._regions(predicted))
        return draw_cells(image, predicted, truth, self._map)

    def describe(self, predicted: Place, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The most probable regions; with `exact` the point and its cell too."""
        regions = {"regions": [region._asdict() for region in self._regions(predicted)]}
        if not self.config.exact:
            return regions
        assert predicted.cell_id is not None
        assert predicted.probabilities is not None
        return regions | {
            "lat_deg": round(predicted.lat_deg, 5),
            "lng_deg": round(predicted.lng_deg, 5),
            "cell": self.metadata["partitionings"][-1]["cell"][predicted.cell_id],
            "probability": round(float(predicted.probabilities[predicted.cell_id]), 4),
        }

    def write_metadata(self, folder: Path) -> None:
        """The cells as a table, and a map of them."""
        write_cells(folder / CELLS, self.partitionings)
        write_image(folder / CELLS.with_suffix(".png"), self._map.draw(None))

    @cached_property
    def _map(self) -> CellMap:
        return CellMap(self.partitionings[-1])

    def _regions(self, predicted: Place) -> list[Region]:
        return most_probable_regions(predicted, self.partitionings[-1])

    def _learnable(self, splits: Splits) -> Splits:
        """The splits without the training photos that are in no cell of any partitioning."""
        if "train" not in splits:
            return splits
        photos = splits["train"]
        kept = np.any([p.find(photos.lat_deg, photos.lng_deg) >= 0 for p in self.partitionings], 0)
        if not kept.any():
            return {name: source for name, source in splits.items() if name != "train"}
        some = photos.select(kept)
        if not kept.all():
            number = len(photos) - len(some)
            some.warnings.append(f"{number} of {len(photos)} training photos are in no kept cell and are left out")
        return {**splits, "train": some}


def _metadata(method: str, partitionings: Sequence[Partitioning], places: Floats) -> dict[str, Any]:
    some = np.random.default_rng(0).permutation(len(places))[:NUM_GUESSES]
    guesses = places[np.sort(some)].tolist()
    return {"method": method, "partitionings": [p.to_json() for p in partitionings], "guesses": guesses}


def _check_same_cells(file: str, partitionings: Sequence[Partitioning]) -> None:
    theirs = read_cells(Path(file))
    if [p.cells.tolist() for p in theirs] != [p.cells.tolist() for p in partitionings]:
        raise ValueError(
            f"cells.file: {file} has the {_count(theirs)} cells of another model; this one has {_count(partitionings)} "
            "of its own, and needs no file (--cells.file null)"
        )


def _count(partitionings: Sequence[Partitioning]) -> str:
    return " + ".join(str(len(partitioning)) for partitioning in partitionings)


def _one_of(splits: Splits, split: Split) -> GeotaggedPhotos:
    if split not in splits:
        raise ValueError(f"no photo is for {split}: the column 'split', data.val_fraction or the cells leave none")
    return splits[split]


def _read_splits(config: GeolocationConfig) -> Splits:
    data = config.data
    root = sample_root() if data.root is None else Path(data.root)
    if not root.is_dir():
        raise ValueError(f"data.root: there is no folder {root}")
    if data.name == "exif":
        photos = read_exif(root)
    elif data.name == "shards":
        photos = read_shards(root)
    else:
        share = config.loop.max_unreadable_fraction
        photos = read_csv(root / data.csv, root / data.images, max_missing_fraction=share)
    splits = split_photos(photos, val_fraction=data.val_fraction, group_by=data.group_by, group_km=data.group_km)
    for source in splits.values():
        source.min_side_px = 2 * data.input_size  # no crop of a larger photo shows more
    return splits
