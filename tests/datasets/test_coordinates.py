"""Readers of geotagged photos: three layouts, and a clear error line for every fault."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import webdataset
from PIL import Image
from PIL.ExifTags import GPS, IFD

from datasets.coordinates import gps_coordinates, read_csv, read_exif
from datasets.geotagged import split_photos
from datasets.images import UnreadableImageError, write_image
from datasets.shards import read_shards

SPLIT: dict[str, Any] = {"val_fraction": 0.4, "group_by": "place", "group_km": 1.0}


def write_images(root: Path, *names: str) -> None:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, np.full((20, 30, 3), 40 * index, np.uint8))


def read(tmp_path: Path, *lines: str, max_missing_fraction: float = 0.0) -> Any:
    write_images(tmp_path / "images", "a.jpg", "b/c.jpg", "d.jpg")
    (tmp_path / "places.csv").write_text("\n".join(lines) + "\n")
    return read_csv(tmp_path / "places.csv", tmp_path / "images", max_missing_fraction=max_missing_fraction)


def test_columns_in_any_order_with_others(tmp_path: Path) -> None:
    photos = read(tmp_path, "LON,city,IMG_ID,LAT,Split", "10.5,X,a.jpg,-3,train", "20,Y,b/c.jpg,4.25,val")
    assert photos.lat_deg.tolist() == [-3, 4.25]
    assert photos.lng_deg.tolist() == [10.5, 20]
    source = split_photos(photos, **SPLIT)["val"]
    example = source[0]
    assert len(source) == 1
    assert (example.truth.lat_deg, example.truth.lng_deg) == (4.25, 20)
    assert example.id == str(tmp_path / "images" / "b" / "c.jpg")
    assert example.image.mean() == pytest.approx(40, abs=2)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ("IMG_ID,LAT,LON", "a.jpg,95,10", "d.jpg,5,10"),
            r"places.csv: 1 of 2 .*a.jpg, has latitude 95 \(expected -90",
        ),
        (("IMG_ID,LAT,LON", "a.jpg,139.7,35.7", "d.jpg,2,48"), "the two columns look swapped"),
        (("IMG_ID,LAT,LON", "a.jpg,nan,10"), "a.jpg, has latitude nan"),
        (
            ("IMG_ID,LAT,LON", "a.jpg,5,10", "d.jpg,,10"),
            r"places.csv, line 3: expected 3 columns with numbers.*'d.jpg,,10'",
        ),
        (("IMG_ID,LAT,LON", "a.jpg,5,340"), "longitudes from 0 to 360 must be given as -180 to 180"),
        (("IMG_ID,LAT,LON", "a.jpg,5"), "line 2: expected 3 columns"),
        (("id;lat;lon", "a.jpg;5;10"), "expected the columns IMG_ID, LAT, LON .* got 'id;lat;lon'"),
        (("IMG_ID,LAT,LON", "a.jpg,5,10", "gone.jpg,6,10"), r"1 of 2 images .* missing, first .*gone.jpg; data.images"),
        (("IMG_ID,LAT,LON", "../a.jpg,5,10"), "outside its folder"),
        (("IMG_ID,LAT,LON", "a.jpg,5,10", "a.jpg,6,10"), "an IMG_ID occurs twice"),
        (("IMG_ID,LAT,LON",), "it has no photos"),
    ],
)
def test_errors_in_a_csv_file(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, *lines)


def test_swapped_columns_are_not_suspected_if_impossible(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="latitude 95") as error:
        read(tmp_path, "IMG_ID,LAT,LON", "a.jpg,95,100", "d.jpg,5,10")
    assert "look swapped" not in str(error.value)


@pytest.mark.parametrize("content", [b"IMG_ID,LAT,LON\n\xe9t\xe9.jpg,1,2\n", b"IMG_ID,LAT,LON\n" + b"x" * 200_000])
def test_the_error_names_a_file_that_is_not_csv(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "places.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"places\.csv: not a CSV file in UTF-8"):
        read_csv(tmp_path / "places.csv", tmp_path, max_missing_fraction=0)


def test_a_few_missing_images_are_left_out_and_counted(tmp_path: Path) -> None:
    photos = read(tmp_path, "IMG_ID,LAT,LON", "a.jpg,5,10", "gone.jpg,6,10", "d.jpg,7,10", max_missing_fraction=0.4)
    assert photos.lat_deg.tolist() == [5, 7]
    assert [Path(photos.images.id(row)).name for row in range(2)] == ["a.jpg", "d.jpg"]
    assert "1 of 3 images" in photos.warnings[0]
    with pytest.raises(ValueError, match=r"no such file; data.csv names it"):
        read_csv(tmp_path / "none.csv", tmp_path, max_missing_fraction=0)


def test_an_empty_split_and_authors(tmp_path: Path) -> None:
    photos = read(tmp_path, "IMG_ID,LAT,LON,split", "a.jpg,5,10,train", "d.jpg,7,10,test")
    splits = split_photos(photos, **SPLIT)
    assert set(splits) == {"train"}
    (warning,) = splits["train"].warnings
    assert warning.startswith("1 photos are in neither train nor val (test)")
    lines = ("IMG_ID,LAT,LON,AUTHOR", "a.jpg,5,10,x", "b/c.jpg,50,10,x", "d.jpg,7,10,y")
    by_author = SPLIT | {"group_by": "author"}
    splits = split_photos(read(tmp_path, *lines), **by_author)
    assert sorted(source.lat_deg.tolist() for source in splits.values()) == [[5, 50], [7]]
    assert set(split_photos(read(tmp_path, *lines), **SPLIT | {"val_fraction": 1})) == {"val"}
    with pytest.raises(ValueError, match="no column AUTHOR"):
        split_photos(read(tmp_path, "IMG_ID,LAT,LON", "a.jpg,5,10"), **by_author)


def write_with_gps(path: Path, gps: dict[int, Any]) -> None:
    image = Image.new("RGB", (20, 10), (90, 90, 90))
    exif = image.getexif()
    exif.get_ifd(IFD.GPSInfo).update(gps)
    image.save(path, exif=exif)


def test_coordinates_from_exif(tmp_path: Path) -> None:
    sydney = {GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: (33.0, 51.0, 54.0)}
    sydney |= {GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (151.0, 12.0, 36.0)}
    write_with_gps(tmp_path / "sydney.jpg", sydney)
    write_with_gps(tmp_path / "nowhere.jpg", {**sydney, GPS.GPSLatitude: (133.0, 0.0, 0.0)})
    write_with_gps(tmp_path / "half.jpg", {GPS.GPSLatitudeRef: "S"})
    write_images(tmp_path, "plain.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    photos = read_exif(tmp_path)
    assert len(photos) == 1
    assert photos.lat_deg[0] == pytest.approx(-33.865)
    assert photos.lng_deg[0] == pytest.approx(151.21)
    assert photos.warnings == [f"4 of 5 images below {tmp_path} have no GPS coordinates; left out"]
    (tmp_path / "sydney.jpg").unlink()
    assert gps_coordinates(tmp_path / "gone.jpg") is None
    with pytest.raises(ValueError, match="none of its 4 images has GPS coordinates"):
        read_exif(tmp_path)


def jpeg(value: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((16, 24, 3), value, np.uint8))[1])


def test_shards_of_webdataset(tmp_path: Path, rng: np.random.Generator) -> None:
    """Written by webdataset itself; images and coordinates match, in any order."""
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"{shard}.tar")) as writer:
            for index in range(3):
                value = 100 * shard + 30 * index
                record = {"latitude": value / 4, "lng": -value / 4, "split": "val" if index == 2 else "train"}
                writer.write({"__key__": f"x/{shard}{index}", "jpg": jpeg(value), "json": record})
    photos = read_shards(tmp_path)
    assert len(photos) == 6
    for row in rng.permutation(6):
        value = photos.images.read(int(row), None).mean()
        assert photos.lat_deg[row] == pytest.approx(value / 4, abs=0.5)
        assert photos.lng_deg[row] == pytest.approx(-value / 4, abs=0.5)
    val = split_photos(photos, **SPLIT)["val"]
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
    assert read_shards(tmp_path).warnings == [
        f"1 members of {tmp_path} are not in pairs of key.jpg and key.json; left out"
    ]
    write({**good, "jpg": b"damaged"})
    with pytest.raises(UnreadableImageError, match=r"0.tar/a.jpg"):
        read_shards(tmp_path).images.read(0, None)
    (tmp_path / "0.tar").write_text(json.dumps("no tar"))
    with pytest.raises(ValueError, match=r"0.tar: not a tar file"):
        read_shards(tmp_path)
