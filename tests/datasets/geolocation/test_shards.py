"""Photos in tar files, read in any order; errors name the shard and the member."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import webdataset

from datasets.geolocation.coordinates import Photos
from datasets.geolocation.places import open_places
from datasets.geolocation.shards import read_place_shards
from datasets.images.read import AS_STORED, UnreadableImageError
from datasets.shards.find import find_shards


def jpeg(value: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((16, 24, 3), value, np.uint8))[1])


def read_shards(root: Path) -> tuple[Photos, str]:
    shards = find_shards(root, "shards")
    assert shards is not None
    return read_place_shards(shards)


def test_shards_of_webdataset(tmp_path: Path, rng: np.random.Generator) -> None:
    """Written by webdataset itself; images and coordinates match, in any order."""
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"{shard}.tar")) as writer:
            for index in range(3):
                value = 100 * shard + 30 * index
                record = {"latitude": value / 4, "lng": -value / 4, "split": "val" if index == 2 else "train"}
                writer.write({"__key__": f"x/{shard}{index}", "jpg": jpeg(value), "json": record})
    photos, found = read_shards(tmp_path)
    assert found == "6 photos in 2 tar files of WebDataset"
    assert len(photos) == 6
    for row in rng.permutation(6):
        value = photos.images.read(int(row), AS_STORED).mean()
        assert photos.lat_deg[row] == pytest.approx(value / 4, abs=0.5)
        assert photos.lng_deg[row] == pytest.approx(-value / 4, abs=0.5)
    val = open_places(tmp_path)["val"]
    assert [val[row].truth.lat_deg for row in range(2)] == [15, 40]
    assert val.id(0) == str(tmp_path / "0.tar" / "x" / "02.jpg")


def test_errors_in_shards(tmp_path: Path) -> None:
    def write(*samples: dict[str, Any]) -> None:
        with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
            for sample in samples:
                writer.write(sample)

    good = {"__key__": "a", "jpg": jpeg(9), "json": {"lat": 1, "lon": 2}}
    with pytest.raises(ValueError, match="expected tar files with pairs"):
        read_shards(tmp_path)
    write(good, {"__key__": "b", "jpg": jpeg(9), "json": {"place": "here"}})
    with pytest.raises(ValueError, match=r"0.tar/b.json: expected a JSON record with numbers.*got the keys 'place'"):
        read_shards(tmp_path)
    write(good, {"__key__": "b", "jpg": jpeg(9), "json": {"lat": 91, "lon": 2}})
    with pytest.raises(ValueError, match=r"b.jpg, has latitude 91"):
        read_shards(tmp_path)
    write(good, {"__key__": "b", "jpg": jpeg(9)})
    assert read_shards(tmp_path)[0].warnings == [f"{tmp_path}: 1 image without key.json left out"]
    write({**good, "jpg": b"damaged"})
    photos, _ = read_shards(tmp_path)
    with pytest.raises(UnreadableImageError, match=r"0.tar/a.jpg"):
        photos.images.read(0, AS_STORED)
    (tmp_path / "0.tar").write_text(json.dumps("no tar"))
    with pytest.raises(ValueError, match=r"0.tar: not a tar file"):
        read_shards(tmp_path)


def test_shards_are_named_like_splits(tmp_path: Path) -> None:
    for name in ("train-0000", "train-0001", "val-0000"):
        with webdataset.TarWriter(str(tmp_path / f"{name}.tar")) as writer:
            writer.write({"__key__": name, "jpg": jpeg(9), "json": {"lat": 1, "lon": 2}})
    data = open_places(tmp_path)
    assert {split: len(data[split]) for split in data.names} == {"train": 2, "val": 1}
