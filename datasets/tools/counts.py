"""Count what is in the splits of a data set, and print it as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from datasets.celeba import AttributeImages
from datasets.classification.labelled import LabelledImages
from datasets.detection.annotated import AnnotatedImages
from datasets.faces import FaceImages
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.images.headers import ImageHeader
from datasets.images.read import image_headers
from datasets.look.labelled import class_counts
from datasets.segmentation.masked import MaskedImages
from datasets.stores import StoredExamples
from datasets.subsample import evenly_spread
from datasets.types import Split

Sources = Mapping[Split, StoredExamples[Any]]
MAX_OPENED = 20_000  # images of a split whose sizes are read from the files
SMALL_PX, MEDIUM_PX = 32, 96  # COCO: small is an area of less than 32 x 32 px, medium less than 96 x 96


def count_splits(sources: Sources) -> list[dict[str, Any]]:
    """A row for each split: its images and what is in them."""
    return [{"split": split, "images": len(source)} | _count(source) for split, source in sources.items()]


def count_classes(sources: Sources) -> list[dict[str, Any]]:
    """A row for each class, attribute or person, with its boxes or images by split; none for places."""
    names = list(dict.fromkeys(name for source in sources.values() for name in _class_names(source)))
    counts_of = {
        split: dict(zip(_class_names(s), _class_counts(s).tolist(), strict=True)) for split, s in sources.items()
    }
    return [{"name": name} | {split: counts.get(name, 0) for split, counts in counts_of.items()} for name in names]


def count_sizes(sources: Sources) -> list[dict[str, Any]]:
    """A row for each split of boxes: how many are small, medium and large by COCO; none for other data."""
    rows = []
    for split, source in sources.items():
        if isinstance(source, AnnotatedImages):
            areas, box_areas = source.objects.areas_px, box_sides(source).prod(1)
            sides = np.sqrt(np.where(np.isnan(areas), box_areas, areas))
            small, medium = int((sides < SMALL_PX).sum()), int((sides < MEDIUM_PX).sum())
            rows.append({"split": split, "small": small, "medium": medium - small, "large": len(sides) - medium})
    return rows


def quantiles(sources: Sources) -> list[dict[str, Any]]:
    """A row for each measure of images and boxes, over all splits: its minimum, median and maximum."""
    sizes = np.concatenate([image_sizes(source) for source in sources.values()])
    measures = {"image width, px": sizes[:, 0], "image height, px": sizes[:, 1]}
    boxes = [source for source in sources.values() if isinstance(source, AnnotatedImages)]
    if boxes:
        sides = np.concatenate([box_sides(source) for source in boxes])
        measures |= {"box width, px": sides[:, 0], "box height, px": sides[:, 1]}
        measures["box width / height"] = sides[:, 0] / sides[:, 1]
    groups = [_class_counts(source) for source in sources.values() if isinstance(source, FaceImages)]
    if groups:
        measures["photos of a person"] = np.concatenate(groups).astype(float)
    places = [source for source in sources.values() if isinstance(source, GeotaggedPhotos)]
    if places:
        measures["latitude, degrees"] = np.concatenate([source.lat_deg for source in places])
        measures["longitude, degrees"] = np.concatenate([source.lng_deg for source in places])
    rows = []
    for name, values in measures.items():
        if len(values):
            low, middle, high = np.quantile(values, [0, 0.5, 1]).round(4).tolist()
            rows.append({"measure": name, "minimum": low, "median": middle, "maximum": high})
    return rows


def image_sizes(source: StoredExamples[Any]) -> NDArray[np.float64]:
    """Width and height of the images, (N, 2); of evenly spread ones if they are many."""
    if isinstance(source, AnnotatedImages):
        return source.sizes_hw[:, ::-1].astype(float)
    headers = image_headers(evenly_spread(len(source), MAX_OPENED).tolist(), source.images.header)
    sizes = [(header.width, header.height) for header in headers if isinstance(header, ImageHeader)]
    return np.array(sizes, float).reshape(-1, 2)


def box_sides(source: AnnotatedImages) -> NDArray[np.float64]:
    """Width and height of the boxes in pixels, (M, 2)."""
    boxes = source.objects.boxes_xyxy
    return boxes[:, 2:] - boxes[:, :2]


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys as a table on standard output."""
    table = Table()
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,.10g}" for value in row.values()))
    Console(highlight=False, markup=False).print(table)


def _count(source: StoredExamples[Any]) -> dict[str, int]:
    match source:
        case AnnotatedImages():
            num_empty = len(source) - len(np.unique(source.objects.image_rows))
            num_classes = int((_class_counts(source) > 0).sum())
            return {"boxes": len(source.objects), "classes": num_classes, "without boxes": num_empty}
        case LabelledImages() | MaskedImages():
            return {"classes": int((_class_counts(source) > 0).sum())}
        case AttributeImages():
            return {"attributes": len(source.attribute_names)}
        case FaceImages():
            return {"persons": len(source.identities)}
        case GeotaggedPhotos():
            return {"places": len(np.unique(np.column_stack([source.lat_deg, source.lng_deg]), axis=0))}
    raise AssertionError(type(source))


def _class_names(source: StoredExamples[Any]) -> Sequence[str]:
    match source:
        case AnnotatedImages():
            return source.categories.names
        case LabelledImages() | MaskedImages():
            return source.class_names
        case AttributeImages():
            return source.attribute_names
        case FaceImages():
            return source.identities
    return ()


def _class_counts(source: StoredExamples[Any]) -> NDArray[np.int64]:
    """The boxes or images of each class."""
    num_classes = len(_class_names(source))
    match source:
        case AnnotatedImages():
            return np.bincount(source.objects.class_ids, minlength=num_classes)
        case LabelledImages() | MaskedImages():
            return class_counts(source)
        case AttributeImages():
            return source.values.sum(0)  # type: ignore[no-any-return]
        case FaceImages():
            return np.bincount(source.identity_ids, minlength=num_classes)
    return np.zeros(0, np.int64)
