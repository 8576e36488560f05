"""Coordinates from EXIF data, and the true reason where there are none."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from datasets.geolocation.exif import NoCoordinatesError, gps_coordinates
from datasets.geolocation.places import open_places
from datasets.images import headers
from datasets.images.read import write_image
from tests.datasets.images.test_decoding import HEIC

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
    exif[Base.Make] = "camera"  # Pillow takes EXIF data without such tags for none
    exif.get_ifd(IFD.GPSInfo).update(gps)
    image.save(path, exif=exif.tobytes())


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
        f"{tmp_path}: 2 of 7 images left out: no GPS coordinates (the first is half.jpg)",
        f"{tmp_path}: 1 of 7 images left out: GPS coordinates out of range (the first is nowhere.jpg)",
        f"{tmp_path}: 1 of 7 images left out: GPS coordinates without the letter N, S, E or W, so the hemisphere is "
        "unknown (the first is a/letters.jpg)",
        f"{tmp_path}: 1 of 7 images left out: latitude 0 and longitude 0, which cameras and apps write where they know "
        "no place (the first is zero.jpg)",
        f"{tmp_path}: 1 of 7 images left out: not an image (the first is text.jpg)",
        f"{tmp_path}: 1 file passed over: 1 .txt",
    }
    (tmp_path / "sydney.jpg").unlink()
    with pytest.raises(NoCoordinatesError, match="cannot be read"):
        gps_coordinates(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"none of its 6 images has GPS coordinates in its EXIF data \(1: GPS"):
        open_places(tmp_path)


@pytest.mark.parametrize(
    ("latitude", "letter", "expected"),
    [
        ((-33.0, 51.0, 54.0), "S", -33.865),  # a sign that agrees with the letter
        ((-33.0, -51.0, -54.0), "S", -33.865),
        ((-33.0, 51.0, 54.0), "N", "negative GPS coordinates with the letter N or E"),
        ((-33.865,), None, "without the letter"),
        ((33.865,), "South", -33.865),
        ((33.865,), "E", "without the letter"),  # of a longitude
        ((-91.0, 0.0, 0.0), "S", "out of range"),
        (("a",), "S", "no numbers"),
        ((float("nan"),), "S", "no numbers"),
    ],
)
def test_signs_and_letters(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    latitude: tuple[Any, ...],
    letter: str | None,
    expected: float | str,
) -> None:
    gps = {**SYDNEY, GPS.GPSLatitude: latitude, GPS.GPSLatitudeRef: letter}
    exif = Image.Exif()
    exif.get_ifd(IFD.GPSInfo).update(gps)
    monkeypatch.setattr(headers, "read_exif", lambda _: exif)
    path = tmp_path / "a.jpg"
    path.touch()
    if isinstance(expected, str):
        with pytest.raises(NoCoordinatesError, match=expected):
            gps_coordinates(path)
    else:
        assert gps_coordinates(path) == pytest.approx((expected, 151.21))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif"])
def test_formats(tmp_path: Path, name: str) -> None:
    write_with_gps(tmp_path / name, SYDNEY)
    assert gps_coordinates(tmp_path / name) == pytest.approx((-33.865, 151.21))


def test_heic_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pi_heif")
    (tmp_path / "a.heic").write_bytes(HEIC)
    with pytest.raises(NoCoordinatesError, match="no GPS coordinates"):
        gps_coordinates(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pi_heif", None)  # not installed
    with pytest.raises(NoCoordinatesError, match="this is HEIC; `pip install"):
        gps_coordinates(tmp_path / "a.heic")


def test_folders_of_splits(tmp_path: Path) -> None:
    for name in ("Train/1.jpg", "Train/deep/2.jpg", "test/3.jpg", "elsewhere/4.jpg"):
        write_with_gps(tmp_path / name, SYDNEY)
    data = open_places(tmp_path, format="exif")
    assert {split: len(data[split]) for split in data.names} == {"train": 2, "test": 1}
    assert data["test"].warnings == [f"{tmp_path}: 1 photo in no split left out"]
