"""Write WebDataset shards: tar files with `key.jpg` beside `key.json`, `key.cls` or `key.mask.png`.

Format: https://github.com/webdataset/webdataset#the-webdataset-format. Beside each tar file is an index of its members,
with which this suite starts at once, and beside all of them a card with the kind of data and the names of classes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.celeba import AttributeImages
from datasets.classification.labelled import LabelledImages
from datasets.faces import FaceImages
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.segmentation.masked import MaskedImages
from datasets.segmentation.masks import encode_mask
from datasets.shards.find import CARD
from datasets.shards.index import build_index, write_index
from datasets.shards.tars import INDEX_SUFFIX
from datasets.stores import ImageStore, StoredExamples
from datasets.types import Split
from datasets.writers.coco import coco_categories, coco_records
from datasets.writers.output import OutputFolder, flat_names, renamed
from datasets.writers.prepare import Part
from datasets.writers.voc import JPEG_SUFFIXES

MAX_IMAGES, MAX_BYTES = 10_000, 1 << 30  # of a shard
SEED = 0

# The text or mask beside the image of a row, and its suffix.
Beside = Callable[[int], bytes]


def write_detection_shards(output: OutputFolder, parts: Mapping[Split, Part]) -> None:
    """Write images and `key.json` with COCO's records of each; categories are in the card."""
    tars: list[str] = []
    for split, part in parts.items():
        tars += _write_split(output, split, part.source.images, part.names, ".json", partial(_detection_record, part))
    _write_card(output, "detection", tars, {"categories": coco_categories(next(iter(parts.values())))})


def write_example_shards(output: OutputFolder, sources: Mapping[Split, StoredExamples[Any]]) -> None:
    """Write images and what is known of each; names of classes and attributes are in the card."""
    tars: list[str] = []
    for split, source in sources.items():
        old = [source.images.name(row) for row in range(len(source))]
        names = flat_names(old)
        output.notes += renamed(old, names)
        suffix, beside = _beside(split, source)
        tars += _write_split(output, split, source.images, names, suffix, beside)
    match next(iter(sources.values())):
        case LabelledImages() as first:
            _write_card(output, "classification", tars, {"class_names": list(first.class_names)})
        case MaskedImages() as first:
            _write_card(output, "segmentation", tars, {"class_names": list(first.class_names)})
        case AttributeImages() as first:
            _write_card(output, "attributes", tars, {"attribute_names": list(first.attribute_names)})
        case FaceImages():
            _write_card(output, "embedding", tars, {})
        case GeotaggedPhotos():
            _write_card(output, "geolocation", tars, {})
            output.notes.append("a record has lat, lon and split, and nothing else of a table")


def _write_card(output: OutputFolder, kind: str, tars: list[str], names: dict[str, Any]) -> None:
    card = {"kind": kind, "tars": tars} | names
    output.add_text(CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def _write_split(
    output: OutputFolder, split: Split, images: ImageStore, names: list[str], suffix: str, beside: Beside
) -> list[str]:
    """Write `<split>-000000.tar`, ... in a random order, the same every time, since other programs read them in order.

    Args:
        output: the folder.
        split: of the images.
        images: N.
        names: of their files (N,), distinct and without folders; up to their suffix they become keys.
        suffix: of the second member, such as `.json`.
        beside: the second member of each row.

    Returns:
        The names of the tar files.
    """
    # A key ends at its first dot.
    keys = flat_names([Path(name).stem.replace(".", "_") for name in names])
    num_changed = sum(key != Path(name).stem for key, name in zip(keys, names, strict=True))
    output.note_count(num_changed, f"keys for {split} are not the names of their files: a key ends at its first dot")
    rows = np.random.default_rng(SEED).permutation(len(names)).tolist()
    tars: list[str] = []
    while rows:
        tars.append(f"{split}-{len(tars):06d}.tar")
        tar = output.file(tars[-1])
        with tarfile.open(tar, "w") as archive:
            num_images = 0
            while rows and num_images < MAX_IMAGES and archive.offset < MAX_BYTES:
                row = rows.pop()
                image_suffix = Path(names[row]).suffix.lower()
                image_suffix = ".jpg" if image_suffix in JPEG_SUFFIXES else image_suffix
                _add(archive, keys[row] + image_suffix, images.data(row))
                _add(archive, keys[row] + suffix, beside(row))
                num_images += 1
                output.advance()
        write_index(tar.with_suffix(INDEX_SUFFIX), build_index(tar))
    return tars


def _beside(split: Split, source: StoredExamples[Any]) -> tuple[str, Beside]:
    """The suffix and the content of the member beside an image."""
    match source:
        case LabelledImages():
            return ".cls", lambda row: str(source.class_ids[row]).encode()
        case MaskedImages():
            return ".mask.png", lambda row: encode_mask(source.truth(row).class_ids)
        case AttributeImages():
            return ".json", lambda row: _json(
                dict(zip(source.attribute_names, source.values[row].astype(int).tolist(), strict=True))
            )
        case FaceImages():
            return ".json", lambda row: _face_record(source, row)
        case GeotaggedPhotos():
            return ".json", lambda row: _place_record(split, source, row)
    raise AssertionError(type(source))


def _face_record(source: FaceImages, row: int) -> bytes:
    face = source.truth(row)
    return _json({"person": face.identity, "number": face.image_number})


def _place_record(split: Split, source: GeotaggedPhotos, row: int) -> bytes:
    place = source.truth(row)
    return _json({"lat": place.lat_deg, "lon": place.lng_deg, "split": split})


def _detection_record(part: Part, row: int) -> bytes:
    height, width = part.image_hw(row)
    image = {"file_name": part.names[row], "width": width, "height": height}
    return _json(image | {"annotations": coco_records(part, row)})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
