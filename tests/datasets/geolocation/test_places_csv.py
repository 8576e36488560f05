"""CSV files of places: the same photos from every dialect, found by looking; errors with file and line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.geolocation.places import open_places
from datasets.images.read import UnreadableImageError, write_image
from datasets.splits import Holdout, SplitData

HOLDOUT = Holdout(0, 0.4)


def write_images(root: Path, *names: str) -> None:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, np.full((20, 30, 3), 40 * index, np.uint8))


def write(tmp_path: Path, *lines: str) -> Path:
    write_images(tmp_path / "images", "a.jpg", "b/c.jpg", "d.jpg")
    (tmp_path / "places.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def places(data: SplitData[GeotaggedPhotos], split: Any = "train") -> dict[str, tuple[float, float]]:
    """Coordinates by the name of the file, in the order of the rows."""
    source = data[split]
    return {
        str(Path(source.id(row)).relative_to(data.root)): (float(source.lat_deg[row]), float(source.lng_deg[row]))
        for row in range(len(source))
    }


def test_columns_in_any_order_with_others(tmp_path: Path) -> None:
    root = write(tmp_path, "LON,city,IMG_ID,LAT,Split", "10.5,X,a.jpg,-3,train", "20,Y,b/c.jpg,4.25,val")
    data = open_places(root)
    assert places(data) == {"images/a.jpg": (-3, 10.5)}
    example = data["val"][0]
    assert (example.truth.lat_deg, example.truth.lng_deg) == (4.25, 20)
    assert example.id == str(tmp_path / "images" / "b" / "c.jpg")
    assert example.image.mean() == pytest.approx(40, abs=2)
    assert data.found == (
        f"places.csv (UTF-8, commas; columns: image IMG_ID, lat LAT, lng LON, split Split), images in {root / 'images'}"
    )


HEADERS = [
    *(("IMG_ID", "LAT", "LON"), ("filename", "latitude", "longitude"), ("File", "Lat", "Lng"), ("path", "y", "x")),
    *(("photo", "Latitude", "Long"), ("image", "lat_deg", "lng_deg"), ("File Name", "GPSLatitude", "GPS Longitude")),
]


@pytest.mark.parametrize("header", HEADERS, ids=" ".join)
@pytest.mark.parametrize(
    ("delimiter", "encoding", "dialect"),
    [
        (",", "utf-8", "UTF-8, commas"),
        (";", "utf-8-sig", "UTF-8, semicolons"),
        ("\t", "utf-16", "UTF-16, tabs"),
        ("\t", "utf-16-le", "UTF-16, tabs"),
        (";", "cp1252", "Windows-1252, semicolons"),
        ("|", "utf-8", "UTF-8, bars"),
    ],
)
def test_the_same_places_from_every_dialect(
    header: tuple[str, ...], delimiter: str, encoding: str, dialect: str, tmp_path: Path
) -> None:
    expected = {"café.jpg": (-33.865, 151.21), "b.jpg": (52.5, 13.4), "c.jpg": (0.25, -78.5)}
    write_images(tmp_path, *expected)
    rows = [header, *((name, *map(str, place)) for name, place in expected.items())]
    if delimiter != ",":
        rows = [tuple(cell.replace(".", ",") if index else cell for index, cell in enumerate(row)) for row in rows]
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n\r\n"
    (tmp_path / "photos.csv").write_bytes(text.encode(encoding))
    data = open_places(tmp_path)
    assert places(data) == expected
    assert dialect in data.found


def test_file_names_beside_ids_and_lines_for_excel(tmp_path: Path) -> None:
    """A column of numbers named id is not that of the files where there is one."""
    root = write(tmp_path, "sep=;", "id;filename;lat;lon", "1;a.jpg;5;10", '2;"d.jpg";6,5;11')
    assert places(open_places(root)) == {"images/a.jpg": (5, 10), "images/d.jpg": (6.5, 11)}


def test_names_of_other_columns_are_settings(tmp_path: Path) -> None:
    root = write(tmp_path, "Foto;Breite;Länge;lat;Teil", "a.jpg;5,5;10;x;Validation", "d.jpg;6;11;y;train")
    columns = {"image": "foto", "lat": "BREITE", "lng": "Länge", "split": "teil"}
    data = open_places(root, columns=columns)
    assert places(data) == {"images/d.jpg": (6, 11)}
    assert places(data, "val") == {"images/a.jpg": (5.5, 10)}
    with pytest.raises(
        ValueError, match=r"no column for image, got 'Foto, Breite, Länge, lat, Teil'; data.columns"
    ) as e:
        open_places(root, columns={"lng": "Länge"})
    assert "places.csv" in str(e.value)
    with pytest.raises(ValueError, match=r"data.columns: there is no column 'Höhe'; its columns are 'Foto, Breite"):
        open_places(root, columns={"lng": "Höhe"})
    with pytest.raises(ValueError, match="'latitude' is not one of image, lat, lng, split, author"):
        open_places(root, columns={"latitude": "Breite"})


@pytest.mark.parametrize("folder", ["", "images", "photos", "export/2024/jpg"])
def test_the_folder_of_the_images_is_found(folder: str, tmp_path: Path) -> None:
    write_images(tmp_path / folder, "a.jpg", "d.jpg")
    (tmp_path / "mine.csv").write_text("file,lat,lon\na.jpg,5,10\nd.jpg,6,11\n")
    data = open_places(tmp_path)
    assert [Path(name).name for name in places(data)] == ["a.jpg", "d.jpg"]
    assert str(tmp_path / folder) in data.found
    assert data["train"].warnings == []


def test_names_without_suffix_and_from_another_machine(tmp_path: Path) -> None:
    """MP-16's ids have no suffix; Windows writes backslashes."""
    write_images(tmp_path / "images", "7d/a.1.jpg", "d.PNG")
    (tmp_path / "a.csv").write_text("img_id,lat,lon\n7d/a.1,5,10\nd,6,11\ngone,7,12\n")
    data = open_places(tmp_path)
    assert places(data) == {"images/7d/a.1.jpg": (5, 10), "images/d.PNG": (6, 11), "images/gone": (7, 12)}
    assert "with another suffix or none" in data["train"].warnings[0]
    (tmp_path / "a.csv").write_text("img_id,lat,lon\nC:\\photos\\7d\\a.1.JPG,5,10\n")
    assert places(open_places(tmp_path)) == {"images/7d/a.1.jpg": (5, 10)}


def test_one_of_several_csv_files(tmp_path: Path) -> None:
    root = write(tmp_path, "IMG_ID,LAT,LON", "a.jpg,5,10")
    (root / "notes.csv").write_text("day,weather\n1,rain\n")
    assert places(open_places(root)) == {"images/a.jpg": (5, 10)}
    (root / "more.csv").write_text("IMG_ID,LAT,LON\nd.jpg,6,11\n")
    assert places(open_places(root)) == {"images/a.jpg": (5, 10)}  # places.csv goes first
    (root / "places.csv").rename(root / "photos.csv")
    with pytest.raises(
        ValueError, match=r"2 CSV files with coordinates \(more.csv, photos.csv\); name one with data.csv"
    ):
        open_places(root)
    assert places(open_places(root, csv="more.csv")) == {"images/d.jpg": (6, 11)}


def test_a_csv_file_for_each_split(tmp_path: Path) -> None:
    write_images(tmp_path, "train/0.jpg", "train/1.jpg", "val/0.jpg", "test/0.jpg", "test/9.jpg")
    (tmp_path / "train.csv").write_text("file,lat,lon\n0.jpg,1,10\n1.jpg,2,10\n")
    (tmp_path / "places_val.csv").write_text("file,lat,lon\n0.jpg,3,10\n")
    (tmp_path / "test.csv").write_text("file\n0.jpg\n")  # without coordinates, as Kaggle gives it
    (tmp_path / "sample_submission.csv").write_text("file,lat,lon\n0.jpg,0,0\n")
    data = open_places(tmp_path)
    assert data.names == ("train", "val")
    assert places(data) == {"train/0.jpg": (1, 10), "train/1.jpg": (2, 10)}
    assert places(data, "val") == {"val/0.jpg": (3, 10)}
    assert data["train"].warnings == [
        f"{tmp_path}: 2 CSV files (sample_submission.csv, test.csv) passed over",
        f"{tmp_path}: 2 images passed over, which no list names (the first is test/0.jpg)",
    ]
    assert data.found.startswith("train.csv (UTF-8, commas; ")
    assert "; places_val.csv (UTF-8" in data.found
    (tmp_path / "train-2.csv").write_text("file,lat,lon\n1.jpg,2,10\n")
    with pytest.raises(ValueError, match="4 CSV files with coordinates"):
        open_places(tmp_path)


def test_images_that_no_row_names_are_counted(tmp_path: Path) -> None:
    root = write(tmp_path, "IMG_ID,LAT,LON", "a.jpg,5,10", "d,,")
    data = open_places(root)  # the photo without coordinates is counted as such
    path = root / "places.csv"
    assert data["train"].warnings == [
        f"{path}: 1 row without coordinates left out, the first in line 3",
        f"{root / 'images'}: 1 image passed over, which no list names (the first is images/b/c.jpg)",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ("IMG_ID,LAT,LON", "a.jpg,95,10", "d.jpg,5,10"),
            r"places.csv: 1 of 2 .*a.jpg, has latitude 95 \(expected -90",
        ),
        (("IMG_ID,LAT,LON", "a.jpg,139.7,35.7", "d.jpg,2,48"), "the two columns look swapped"),
        (("IMG_ID,LAT,LON", "a.jpg,inf,10"), "a.jpg, has latitude inf"),
        (
            ("IMG_ID,LAT,LON", "a.jpg,5,10", "d.jpg,north,10"),
            r"places.csv, line 3: expected 3 columns with numbers in LAT and LON, got 'd.jpg, north, 10'",
        ),
        (("IMG_ID,LAT,LON", "a.jpg,5,340"), "longitudes from 0 to 360 must be given as -180 to 180"),
        (("IMG_ID,LAT,LON", "a.jpg,5"), "line 2: expected 3 columns"),
        (
            ("photo;north;east", "a.jpg;5;10"),
            "places.csv: its first line has no column for lat and lng, got 'photo, north",
        ),
        (("a.jpg,5,10",), "its first line has no column for image and lat and lng"),
        (
            ("IMG_ID,LAT,LON", "gone.jpg,6,10"),
            r"places.csv: none of its 1 images is there, .*gone.jpg.*data.images names",
        ),
        (("IMG_ID,LAT,LON", "a.jpg,5,10", "a.jpg,6,10"), "a.jpg is in more than one row; expected each photo once"),
        (("IMG_ID,LAT,LON",), "it has no photos with coordinates"),
        (("IMG_ID,LAT,LON", "a.jpg,,"), "it has no photos with coordinates"),
        ((), "its first line has no column for image and lat and lng"),
    ],
)
def test_errors_in_a_csv_file(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        open_places(write(tmp_path, *lines))
    assert "\n" not in str(raised.value)
    assert "places.csv" in str(raised.value)


def test_swapped_columns_are_not_suspected_if_impossible(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="latitude 95") as error:
        open_places(write(tmp_path, "IMG_ID,LAT,LON", "a.jpg,95,100", "d.jpg,5,10"))
    assert "look swapped" not in str(error.value)


@pytest.mark.parametrize("content", [b"IMG_ID,LAT,LON\n" + b"x" * 200_000, b"\xff\xfeI\x00M", b"\x00\xd8,\x00"])
def test_the_error_names_a_file_that_is_not_csv(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "places.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"places\.csv: "):
        open_places(tmp_path)


def test_missing_images_are_kept_and_rows_without_coordinates_counted(tmp_path: Path) -> None:
    rows = ("a.jpg,5,10", "gone.jpg,6,10", "b/c.jpg,,10", "x.jpg,NaN,NULL", "d.jpg,7,10")
    data = open_places(write(tmp_path, "IMG_ID,LAT,LON", *rows))
    assert places(data) == {"images/a.jpg": (5, 10), "images/gone.jpg": (6, 10), "images/d.jpg": (7, 10)}
    path = tmp_path / "places.csv"
    assert data["train"].warnings == [f"{path}: 2 rows without coordinates left out, the first in line 4"]
    with pytest.raises(UnreadableImageError, match=r"gone.jpg: No such file"):
        data["train"][1]
    with pytest.raises(ValueError, match=r"no such file as .*none.csv; data.csv names it; found images/"):
        open_places(tmp_path, csv="none.csv")


@pytest.mark.parametrize("name", ["../gone.jpg", f"{'x' * 300}.jpg"])
def test_a_name_that_no_file_of_the_data_can_have_is_an_unreadable_image(tmp_path: Path, name: str) -> None:
    photos = open_places(write(tmp_path, "IMG_ID,LAT,LON", f"{name},5,10", "d.jpg,1,2"))["train"]
    assert Path(photos.id(0)).is_relative_to(tmp_path)
    with pytest.raises(UnreadableImageError):
        photos[0]


def test_splits_and_authors(tmp_path: Path) -> None:
    root = write(tmp_path, "IMG_ID,LAT,LON,split", "a.jpg,5,10,Train", "b/c.jpg,6,10,?", "d.jpg,7,10,testing")
    data = open_places(root)
    assert data.names == ("train", "test")
    assert data["train"].warnings == [f"{root}: 1 photo in no split left out"]
    root = write(tmp_path, "IMG_ID,LAT,LON,set", "a.jpg,5,10,A", "d.jpg,7,10,B")
    data = open_places(root)
    assert len(data["train"]) == 2
    assert "its splits have names of none (A, B); it is passed over" in data["train"].warnings[0]
    root = write(tmp_path, "IMG_ID,LAT,LON,AUTHOR", "a.jpg,5,10,x", "b/c.jpg,50,10,x", "d.jpg,7,10,y")
    data = open_places(root, holdout=HOLDOUT, group_by="author")
    assert sorted(sorted(places(data, split)) for split in data.names) == [
        ["images/a.jpg", "images/b/c.jpg"],
        ["images/d.jpg"],
    ]
    assert open_places(root, holdout=Holdout(0, 1), group_by="author").names == ("val",)
    with pytest.raises(ValueError, match="no column of authors"):
        open_places(write(tmp_path, "IMG_ID,LAT,LON", "a.jpg,5,10"), holdout=HOLDOUT, group_by="author")


def test_folders_without_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no places found; expected a CSV file .*; found nothing"):
        open_places(tmp_path)
    with pytest.raises(ValueError, match="none: no such folder; expected a folder with a CSV file"):
        open_places(tmp_path / "none")


@pytest.mark.data
def test_real_places(shared: Path) -> None:
    root = shared / "data" / "geo"
    with pytest.raises(ValueError, match=r"2 CSV files with coordinates \(sf.csv, webcams.csv\)"):
        open_places(root)
    data = open_places(root, csv="sf.csv")
    assert f"images in {root / 'sf'}" in data.found
    assert Path(data[data.names[0]].id(0)).is_file()
