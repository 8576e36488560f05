"""Write data of any kind in any format that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.celeba import AttributeImages
from datasets.detection.annotated import AnnotatedImages
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.progress import Progress
from datasets.segmentation.masked import MaskedImages
from datasets.stores import ImageFiles, StoredExamples
from datasets.types import Split
from datasets.writers.coco import write_coco
from datasets.writers.examples import (
    select_readable,
    write_celeba,
    write_folders,
    write_places,
)
from datasets.writers.output import OutputFolder
from datasets.writers.prepare import prepare
from datasets.writers.shards import write_detection_shards, write_example_shards
from datasets.writers.voc import write_voc
from datasets.writers.yolo import write_yolo

BOX_WRITERS = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc, "webdataset": write_detection_shards}
WEBDATASET = "webdataset"


def write_data(
    folder: Path, sources: Mapping[Split, StoredExamples[Any]], format: str | None, *, copies: bool
) -> tuple[dict[Split, StoredExamples[Any]], list[str]]:
    """Write the images of each split and their truth.

    Args:
        folder: an empty one.
        sources: by split.
        format: a key of BOX_WRITERS for images with boxes. For others, webdataset; None for their own format, which is
            class folders, CelebA's lists, or a CSV file of places.
        copies: of image files, instead of hard links.

    Returns:
        What was written, without the images that cannot be read, and a line for each thing that was changed or that
        the format cannot hold.

    Raises:
        ValueError: if no image of a split can be read, or the format cannot hold the data.
        OSError: if a file cannot be written.
    """
    num_images = sum(map(len, sources.values()))
    first = next(iter(sources.values()))
    if isinstance(first, MaskedImages) and format != WEBDATASET:
        raise ValueError(
            f"masks are written by `convert --to {WEBDATASET}` alone; `split` without --out prints how they are divided"
        )
    if format != WEBDATASET and not isinstance(first.images, ImageFiles):
        raise ValueError(f"{first.images.root}: images in tar files are written by `convert --to {WEBDATASET}` alone")
    if not isinstance(first, AnnotatedImages) and format not in (None, WEBDATASET):
        raise ValueError(f"--to {format}: these data have no boxes; they can be written as {WEBDATASET}")
    with Progress("looking at images", num_images) as progress:
        if isinstance(first, AnnotatedImages):
            across = format == "voc"
            parts, lines = prepare(sources, names_across_splits=across, advance=progress.advance)  # type: ignore[arg-type]
            written: dict[Split, Any] = {split: part.source for split, part in parts.items()}
        else:
            written, lines = select_readable(sources, progress.advance)
    with Progress("writing images", sum(map(len, written.values()))) as progress:
        output = OutputFolder(folder, copies=copies, progress=progress)
        if isinstance(first, AnnotatedImages):
            assert format is not None
            BOX_WRITERS[format](output, parts)
        elif format == WEBDATASET:
            write_example_shards(output, written)
        elif isinstance(first, AttributeImages):
            write_celeba(output, written)
        elif isinstance(first, GeotaggedPhotos):
            write_places(output, written)
        else:
            write_folders(output, written)
    return written, lines + output.notes
