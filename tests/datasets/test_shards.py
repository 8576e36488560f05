"""Tar files as data: what is converted is read again, as webdataset reads it, in any order, damaged or not."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import webdataset

from datasets.open import KINDS, Kind, open_folder
from datasets.splits import SplitData
from datasets.stores import StoredExamples
from datasets.tools.cli import main
from datasets.types import Attributes, Detections, Face, Label, Mask, Place


def jpeg(value: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((16, 24, 3), value, np.uint8))[1])


def png(values: Any) -> bytes:
    return bytes(cv2.imencode(".png", np.asarray(values, np.uint8))[1])


def write_tar(path: Path, *samples: dict[str, Any]) -> Path:
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def hash_of(array: np.ndarray) -> str:
    return f"{array.shape} {hashlib.sha256(array).hexdigest()}"


def truth_of(source: StoredExamples[Any], row: int) -> list[Any]:
    """What is true of an image, in values that can be compared."""
    truth = source.truth(row)
    match truth:
        case Label():
            return [source.class_names[truth.class_id]]  # type: ignore[attr-defined]
        case Detections():
            names = [source.categories.names[class_id] for class_id in truth.class_ids]  # type: ignore[attr-defined]
            order = np.lexsort(truth.boxes_xyxy.T)
            boxes = truth.boxes_xyxy[order].tolist()
            return [truth.image_hw, boxes, [names[k] for k in order], truth.areas_px[order].tolist()]
        case Mask():
            return [hash_of(truth.class_ids), source.class_names]  # type: ignore[attr-defined]
        case Attributes():
            return [truth.values.tolist(), source.attribute_names]  # type: ignore[attr-defined]
        case Face():
            return [truth.identity, truth.image_number]
        case Place():
            return [truth.lat_deg, truth.lng_deg]
    raise AssertionError(type(truth))


def content(data: SplitData[Any]) -> dict[str, list[str]]:
    """Images and truth of each split, in an order that does not depend on that of the data."""
    return {
        split: sorted(
            f"{hash_of(data[split][row].image)} {truth_of(data[split], row)}"
            for row in range(len(data[split]))
        )
        for split in data.names
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_converted_to_shards_is_read_again(
    kind: Kind, generated_roots: Callable[[str], Path], tmp_path: Path
) -> None:
    """Images and truth of every split are equal; nothing but the folder is needed."""
    root = generated_roots(kind)
    assert main(["convert", str(root), "--task", kind, "--to", "webdataset", "--out", str(tmp_path / "out")]) == 0
    _, loose = open_folder(root, kind=kind)
    moved = shutil.move(tmp_path / "out", tmp_path / "moved")
    found, shards = open_folder(moved)
    assert found == kind
    assert shards.found.startswith("WebDataset") or kind == "geolocation"
    assert content(shards) == content(loose)
