"""Write images with one truth each: class folders, CelebA's lists, or a CSV file of places."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datasets.celeba import ATTRIBUTE_LIST, IMAGES, PARTITION_LIST, AttributeImages
from datasets.classification.class_folders import IMAGENET_CLASS_LISTS
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.images.read import UnreadableImageError, image_headers
from datasets.segmentation.masked import MaskedImages
from datasets.splits import SPLITS, split_named
from datasets.stores import ImageFiles, StoredExamples
from datasets.types import Split
from datasets.writers.output import OutputFolder, flat_names, renamed

Sources = Mapping[Split, StoredExamples[Any]]
PLACES = "places.csv"


def select_readable(sources: Sources, advance: Callable[[], None]) -> tuple[dict[Split, Any], list[str]]:
    """The images that have a header, and a mask where they need one, and a line for those that are left out.

    Raises:
        ValueError: if none of a split can be read.
    """
    kept, lines = {}, []
    for split, source in sources.items():
        is_readable = np.ones(len(source), np.bool_)
        faults = []
        for row, header in enumerate(image_headers(range(len(source)), source.images.header)):
            advance()
            fault = str(header) if isinstance(header, UnreadableImageError) else ""
            if not fault and isinstance(source, MaskedImages):
                fault = source.fault(row)
            if fault:
                is_readable[row] = False
                faults.append(fault)
        if len(faults) == len(source):
            raise ValueError(f"none of the {len(source)} images for {split} can be read; the first, {faults[0]}")
        if faults:
            lines.append(f"{len(faults)} of {len(source)} images for {split} are left out; the first, {faults[0]}")
        kept[split] = source.select(is_readable)  # type: ignore[attr-defined]
    return kept, lines


def root_and_name(source: StoredExamples[Any], row: int) -> tuple[Path, str]:
    """The folder of the data and the name of an image file below it."""
    assert isinstance(source.images, ImageFiles)
    return source.images.root, source.images.name(row)


def write_folders(output: OutputFolder, sources: Sources) -> None:
    """Write `train/<class>/*`, `val/<class>/*`, ..., and the list of classes where there is one."""
    for split, source in sources.items():
        for row in range(len(source)):
            root, name = root_and_name(source, row)
            parts = PurePosixPath(name).parts
            if len(parts) > 2 and split_named(parts[0]) is not None:
                parts = parts[1:]  # the folder of its split
            output.add_image(root / name, "/".join([split, *parts]))
    for file in (root / name for name in IMAGENET_CLASS_LISTS):
        if file.is_file():
            output.file(file.name).write_bytes(file.read_bytes())


def write_celeba(output: OutputFolder, sources: Mapping[Split, AttributeImages]) -> None:
    """Write CelebA's official layout."""
    attribute_names = next(iter(sources.values())).attribute_names
    if any(len(name.split()) != 1 for name in attribute_names):
        raise ValueError(f"CelebA's list cannot hold names of attributes with spaces: {', '.join(attribute_names)}")
    names = iter(_names(output, sources, without_spaces=True))
    lines, partitions = [], []
    for split, source in sources.items():
        for row in range(len(source)):
            root, original = root_and_name(source, row)
            name = next(names)
            lines.append(" ".join([name, *(" 1" if value else "-1" for value in source.values[row])]))
            partitions.append(f"{name} {SPLITS.index(split)}")
            output.add_image(root / original, f"{IMAGES}/{name}")
    output.add_text(ATTRIBUTE_LIST, "\n".join([str(len(lines)), " ".join(attribute_names), *lines, ""]))
    output.add_text(PARTITION_LIST, "\n".join([*partitions, ""]))


def write_places(output: OutputFolder, sources: Mapping[Split, GeotaggedPhotos]) -> None:
    """Write `images/` and `places.csv` with the columns IMG_ID, LAT, LON, split."""
    names = iter(_names(output, sources))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["IMG_ID", "LAT", "LON", "split"])
    for split, source in sources.items():
        for row in range(len(source)):
            root, original = root_and_name(source, row)
            name = next(names)
            writer.writerow([name, repr(float(source.lat_deg[row])), repr(float(source.lng_deg[row])), split])
            output.add_image(root / original, f"images/{name}")
    output.add_text(PLACES, text.getvalue())
    output.notes.append(f"{PLACES} has the columns IMG_ID, LAT, LON and split, and no others")


def _names(output: OutputFolder, sources: Sources, *, without_spaces: bool = False) -> Sequence[str]:
    """File names that are distinct among the splits; those that are new are noted."""
    old = [root_and_name(source, row)[1] for source in sources.values() for row in range(len(source))]
    new = flat_names(["_".join(name.split()) for name in old] if without_spaces else old)
    output.notes += renamed(old, new)
    return new
