"""Coordinates from EXIF data, and the true reason where there are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD

from datasets.geolocation.exif import NoCoordinatesError, gps_coordinates
from datasets.geolocation.places import open_places
from datasets.images.read import write_image

SYDNEY = {
    GPS.GPSLatitudeRef: "S",
    GPS.GPSLatitude: (33.0, 51.0, 54.0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (151.0, 12.0, 36.0),
}


def write_with_gps(path: Path, gps: dict[int, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (20, 10), (90, 90, 90))
    exif = image.getexif()
    exif.get_ifd(IFD.GPSInfo).update(gps)
    image.save(path, exif=exif)


def test_coordinates_from_exif(tmp_path: Path) -> None:
    write_with_gps(tmp_path / "sydney.jpg", SYDNEY)
    write_with_gps(tmp_path / "nowhere.jpg", {**SYDNEY, GPS.GPSLatitude: (133.0, 0.0, 0.0)})
    write_with_gps(tmp_path / "half.jpg", {GPS.GPSLatitudeRef: "S"})
    write_with_gps(tmp_path / "zero.jpg", {**SYDNEY, GPS.GPSLatitude: (0.0,) * 3, GPS.GPSLongitude: (0.0,) * 3})
    write_with_gps(tmp_path / "a" / "letters.jpg", {k: v for k, v in SYDNEY.items() if k != GPS.GPSLatitudeRef})
    write_image(tmp_path / "plain.jpg", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "notes.txt").touch()
    data = open_places(tmp_path)
    photos = data["train"]
    assert data.found == "EXIF data of 1 of 7 images"
    assert photos.lat_deg.tolist() == pytest.approx([-33.865])
    assert photos.lng_deg.tolist() == pytest.approx([151.21])
    assert set(photos.warnings) == {
        f"{tmp_path}: 2 of 7 images have no GPS coordinates; left out, the first half.jpg",
        f"{tmp_path}: 1 of 7 images have GPS coordinates out of range; left out, the first nowhere.jpg",
        f"{tmp_path}: 1 of 7 images have GPS coordinates without the letter N, S, E or W, so the hemisphere is unknown"
        "; left out, the first a/letters.jpg",
        f"{tmp_path}: 1 of 7 images are at latitude 0 and longitude 0, which cameras and apps write where they know no "
        "place; left out, the first zero.jpg",
        f"{tmp_path}: 1 of 7 images cannot be read; left out, the first text.jpg",
        f"{tmp_path}: 1 file passed over: 1 .txt",
    }
    (tmp_path / "sydney.jpg").unlink()
    with pytest.raises(NoCoordinatesError, match="cannot be read"):
        gps_coordinates(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"none of its 6 images has GPS coordinates in its EXIF data \(1 have GPS"):
        open_places(tmp_path)


def test_folders_of_splits(tmp_path: Path) -> None:
    for name in ("Train/1.jpg", "Train/deep/2.jpg", "test/3.jpg", "elsewhere/4.jpg"):
        write_with_gps(tmp_path / name, SYDNEY)
    data = open_places(tmp_path, format="exif")
    assert {split: len(data[split]) for split in data.names} == {"train": 2, "test": 1}
    assert data["test"].warnings == [f"{tmp_path}: 1 photos are in no split; left out"]
