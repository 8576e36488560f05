"""`python -m datasets split`: the val part is the one that a training holds out, in every format and after writing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.images.read import write_image
from datasets.open import open_folder
from datasets.splits import Holdout
from datasets.tools.cli import main

NUM_IMAGES = 60
Make = Callable[[Path], None]


def write_images(root: Path, names: list[str], rng: np.random.Generator) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, rng.integers(0, 256, (16, 16, 3), np.uint8))  # all different


def make_classes(root: Path) -> None:
    names = [f"{folder}/{number}.png" for folder in ("cat", "dog", "ox") for number in range(NUM_IMAGES // 3)]
    write_images(root, names, np.random.default_rng(0))


def make_persons(root: Path) -> None:
    names = [f"person {person}/{number}.png" for person in range(NUM_IMAGES // 3) for number in range(3)]
    write_images(root, names, np.random.default_rng(0))


def make_coco(root: Path) -> None:
    names = [f"{number}.png" for number in range(NUM_IMAGES)]
    write_images(root / "photos", names, np.random.default_rng(0))
    annotation = {"category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    content = {
        "images": [{"id": row, "file_name": name, "height": 16, "width": 16} for row, name in enumerate(names)],
        "annotations": [annotation | {"id": row, "image_id": row} for row in range(NUM_IMAGES)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "labels.json").write_text(json.dumps(content))


def make_yolo(root: Path) -> None:
    names = [f"images/{number}.png" for number in range(NUM_IMAGES)]
    write_images(root, names, np.random.default_rng(0))
    (root / "labels").mkdir()
    for number in range(NUM_IMAGES):
        (root / f"labels/{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")


def make_attributes(root: Path) -> None:
    names = [f"{number:06d}.png" for number in range(NUM_IMAGES)]
    write_images(root / "img_align_celeba", names, np.random.default_rng(0))
    lines = [f"{name} {'-1' if row % 2 else '1'} 1" for row, name in enumerate(names)]
    (root / "list_attr_celeba.txt").write_text("\n".join([str(NUM_IMAGES), "Hat Scarf", *lines]))


def make_places(root: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(NUM_IMAGES)]
    write_images(root / "images", names, rng)
    rows = [f"{name};{rng.uniform(-60, 60):.4f};{rng.uniform(-170, 170):.4f}" for name in names]
    (root / "places.csv").write_text("\n".join(["name;latitude;longitude", *rows]))


MAKERS: dict[str, tuple[str, Make]] = {
    "class folders": ("classification", make_classes),
    "persons": ("embedding", make_persons),
    "COCO": ("detection", make_coco),
    "YOLO": ("detection", make_yolo),
    "attributes": ("attributes", make_attributes),
    "places": ("geolocation", make_places),
}


@pytest.fixture(params=MAKERS)
def kind_and_root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    kind, make = MAKERS[request.param]
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    return kind, tmp_path / "data"


def pixels_of(source: Any) -> set[bytes]:
    """The images of a split, by what is in them."""
    return {Path(source.id(row)).read_bytes() for row in range(len(source))}


def split(kind: str, root: Path, *words: str) -> int:
    return main(["split", str(root), "--task", kind, *words])


def test_the_val_part_is_the_one_of_a_training(kind_and_root: tuple[Any, Path], tmp_path: Path) -> None:
    kind, root = kind_and_root
    assert split(kind, root, "--val_fraction", "0.3", "--out", str(tmp_path / "out")) == 0
    _, training = open_folder(root, kind=kind, holdout=Holdout(0, 0.3))
    _, written = open_folder(tmp_path / "out", kind=kind, holdout=Holdout(0, 0.9))  # without effect on a val part
    assert written.names == ("train", "val")
    for name in written.names:
        assert pixels_of(written[name]) == pixels_of(training[name])
        assert len(written[name]) == len(training[name])
    assert 0 < len(written["val"]) < NUM_IMAGES / 2


def test_a_test_part_leaves_the_val_part_as_it_is(kind_and_root: tuple[Any, Path], tmp_path: Path) -> None:
    kind, root = kind_and_root
    words = ["--val_fraction", "0.3", "--test_fraction", "0.2"]
    assert split(kind, root, *words, "--out", str(tmp_path / "out")) == 0
    _, training = open_folder(root, kind=kind, holdout=Holdout(0, 0.3))
    _, written = open_folder(tmp_path / "out", kind=kind)
    assert pixels_of(written["val"]) == pixels_of(training["val"])
    parts = [pixels_of(written[name]) for name in ("train", "val", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == NUM_IMAGES  # so none is in two parts, and none is lost
    if kind == "embedding":
        persons = [set(written[name].identities) for name in ("train", "val", "test")]
        assert sum(map(len, persons)) == len(set().union(*persons))
    if kind == "classification":
        for name in ("train", "val", "test"):
            assert set(written[name].class_ids.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("target", ["coco", "yolo", "voc"])
def test_converted_data_are_divided_in_the_same_way(target: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    make_coco(tmp_path / "data")
    assert main(["convert", str(tmp_path / "data"), "--to", target, "--out", str(tmp_path / "out")]) == 0
    parts = [open_folder(root, holdout=Holdout(0, 0.3))[1]["val"] for root in (tmp_path / "data", tmp_path / "out")]
    assert pixels_of(parts[0]) == pixels_of(parts[1])


def test_a_test_part_of_data_with_a_val_part(tmp_path: Path) -> None:
    make_classes(tmp_path / "data/train")
    make_classes(tmp_path / "data/val")
    assert split("classification", tmp_path / "data", "--test_fraction", "0.3", "--out", str(tmp_path / "out")) == 0
    _, written = open_folder(tmp_path / "out")
    assert len(written["val"]) == NUM_IMAGES
    assert len(written["train"]) + len(written["test"]) == NUM_IMAGES
    assert len(written["test"])


def test_a_class_is_not_lost_for_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_classes(tmp_path / "data")
    write_images(tmp_path / "data", ["rare/1.png", "rare/2.png"], np.random.default_rng(1))
    words = ["--val_fraction", "0.3", "--test_fraction", "0.3", "--json"]
    assert split("classification", tmp_path / "data", *words) == 0
    printed = json.loads(capsys.readouterr().out)
    rare = next(row for row in printed["classes"] if row["name"] == "rare")
    assert (rare["train"], rare["val"], rare["test"]) == (1, 1, 0)
    assert printed["notes"] == ["1 classes have no image for test; the first, rare"]


def test_without_out_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_classes(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    assert split("classification", tmp_path / "data", "--val_fraction", "0.3", "--json") == 0
    assert sorted(tmp_path.rglob("*")) == before
    printed = json.loads(capsys.readouterr().out)
    assert printed["out"] is None
    assert sum(row["images"] for row in printed["splits"]) == NUM_IMAGES
    for row in printed["classes"]:
        assert row["train"] + row["val"] == NUM_IMAGES // 3
    assert split("classification", tmp_path / "data", "--val_fraction", "0.3") == 0
    assert "cat" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["split", "--val_fraction", "0.5"], ["convert", "--to", "webdataset"]], ids=str)
def test_of_several_csv_files_one_is_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    make_places(root)
    (root / "places.csv").rename(root / "all.csv")
    (root / "some.csv").write_text("name;latitude;longitude\n0.png;10;20\n1.png;-10;50\n2.png;30;90\n")
    verb, *flags = words
    assert main([verb, str(root), *flags, "--out", str(tmp_path / "out")]) == 1
    assert "2 CSV files with coordinates (all.csv, some.csv)" in capsys.readouterr().err
    assert main([verb, str(root), *flags, "--out", str(tmp_path / "out"), "--csv", "some.csv", "--json"]) == 0
    assert sum(row["images"] for row in json.loads(capsys.readouterr().out)["splits"]) == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "expected --val_fraction or --test_fraction"),
        (["--val_fraction", "0.6", "--test_fraction", "0.4"], "expected a sum under 1"),
        (["--val_fraction", "0.3", "--format", "cocoa"], "have no format 'cocoa'"),
    ],
)
def test_errors(words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_classes(tmp_path / "data")
    assert split("classification", tmp_path / "data", *words, "--out", str(tmp_path / "out")) == 1
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "many"])
def test_fractions_are_between_0_and_1(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["split", ".", f"--val_fraction={value}"])
    assert done.value.code == 2
    assert "--val_fraction" in capsys.readouterr().err


@pytest.mark.data
def test_real_photos(shared: Path, tmp_path: Path) -> None:
    """Ten face photos of each of 40 persons, taken as classes: all can be learned and scored."""
    root = shared / "data/faces/identities"
    words = ["--val_fraction", "0.2", "--test_fraction", "0.2", "--out", str(tmp_path / "out")]
    assert split("classification", root, *words) == 0
    _, written = open_folder(tmp_path / "out")
    assert sum(len(written[name]) for name in ("train", "val", "test")) == 400
    assert all(len(set(written[name].class_ids.tolist())) == 40 for name in ("train", "val"))
