"""`python -m datasets convert`: round trips, shards of every kind of data, and what is left when it fails."""

import json
import shlex
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datasets.sample.detection as sample
from datasets.detection.category_ids import CATEGORY_IDS
from datasets.detection.read import open_detection
from datasets.files import CACHE_VARIABLE
from datasets.images.read import write_image
from datasets.open import open_folder
from datasets.tools.cli import VERBS, main
from datasets.writers.output import OutputFolder


def convert(folder: Path, target: str, out: Path, *words: str) -> int:
    return main(["convert", str(folder), "--to", target, "--out", str(out), *words])


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def assert_same_objects(first: Path, second: Path, *, atol: float) -> None:
    """The same categories, images in the same order, classes, crowds and boxes in every split."""
    one, other = open_detection(first), open_detection(second)
    assert one.names == other.names
    for split in one.names:
        a, b = one[split], other[split]
        assert a.categories == b.categories
        for row in range(len(a)):
            # Files of one name in two splits have the split in front in VOC, which has one folder.
            assert Path(b.id(row)).stem.endswith(Path(a.id(row)).stem)
        np.testing.assert_array_equal(a.objects.image_rows, b.objects.image_rows)
        np.testing.assert_array_equal(a.objects.class_ids, b.objects.class_ids)
        np.testing.assert_array_equal(a.objects.is_crowd, b.objects.is_crowd)
        np.testing.assert_allclose(a.objects.boxes_xyxy, b.objects.boxes_xyxy, atol=atol)


@pytest.mark.parametrize(("target", "atol"), [("coco", 0), ("yolo", 1e-6), ("voc", 0)])
def test_round_trips_of_the_generated_sample(target: str, atol: float, generated_root: Path, tmp_path: Path) -> None:
    """Its boxes are whole pixels, which VOC keeps."""
    before = snapshot(generated_root)
    assert convert(generated_root, target, tmp_path / "a") == 0
    assert convert(tmp_path / "a", "coco", tmp_path / "b") == 0
    assert_same_objects(generated_root, tmp_path / "a", atol=atol)
    assert_same_objects(generated_root, tmp_path / "b", atol=atol)
    assert snapshot(generated_root) == before


@pytest.mark.data
@pytest.mark.parametrize(("target", "atol"), [("coco", 1e-6), ("yolo", 1e-6), ("voc", 1)])
@pytest.mark.parametrize("name", ["bccd", "coco128", "helmet", "yolo_fruit"])
def test_round_trips_of_real_data(name: str, target: str, atol: float, shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / name
    convert(root, "coco", tmp_path / "original")  # the order of images may be another in COCO's list
    assert convert(tmp_path / "original", target, tmp_path / "a") == 0
    assert convert(tmp_path / "a", "coco", tmp_path / "b") == 0
    originals = {split: by_stem(source) for split, source in splits_of(root).items()}
    for split, source in splits_of(tmp_path / "b").items():
        found = by_stem(source)
        assert found.keys() == originals[split].keys()
        for stem, truth in found.items():
            original = originals[split][stem]
            np.testing.assert_array_equal(truth.class_ids, original.class_ids)
            np.testing.assert_allclose(truth.boxes_xyxy, original.boxes_xyxy, atol=atol)


def splits_of(root: Path) -> dict[str, Any]:
    data = open_detection(root)
    return {split: data[split] for split in data.names}


def by_stem(source: Any) -> dict[str, Any]:
    return {Path(source.id(row)).stem: source.truth(row) for row in range(len(source))}


@pytest.fixture
def with_gaps(tmp_path: Path) -> Path:
    """COCO's ids with gaps, in no order of names; one category without a box; a crowd."""
    root = tmp_path / "with_gaps"
    root.mkdir()
    write_image(root / "a.png", np.zeros((40, 60, 3), np.uint8))
    write_image(root / "b.png", np.zeros((40, 60, 3), np.uint8))
    content = {
        "images": [{"id": 7, "file_name": "b.png", "height": 40, "width": 60}, {"id": 3, "file_name": "a.png"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [10, 5, 20, 10], "area": 150, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [1, 2, 5, 5], "area": 20, "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 4, "bbox": [0, 0, 60, 40], "iscrowd": 0},
        ],
        "categories": [{"id": 90, "name": "apple"}, {"id": 4, "name": "zebra"}, {"id": 17, "name": "no one's"}],
    }
    (root / "labels.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("target", ["coco", "yolo", "voc"])
def test_category_ids_survive(target: str, with_gaps: Path, tmp_path: Path) -> None:
    assert convert(with_gaps, target, tmp_path / "a") == 0
    assert convert(tmp_path / "a", "coco", tmp_path / "b") == 0
    content = json.loads((tmp_path / "b/annotations/instances_train.json").read_text())
    assert {c["id"]: c["name"] for c in content["categories"]} == {90: "apple", 4: "zebra", 17: "no one's"}
    name_of = {image["id"]: image["file_name"] for image in content["images"]}
    found = {
        (name_of[a["image_id"]], a["category_id"], tuple(map(round, a["bbox"])), a["iscrowd"])
        for a in content["annotations"]
    }
    crowd = ("b.png", 4, (1, 2, 5, 5), 1)
    expected = {("b.png", 90, (10, 5, 20, 10), 0), ("a.png", 4, (0, 0, 60, 40), 0), crowd}
    assert found == (expected - {crowd} if target == "yolo" else expected)


def test_category_ids_that_lack_a_class(with_gaps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(with_gaps, "yolo", tmp_path / "a")
    (tmp_path / "a" / CATEGORY_IDS).write_text('{"apple": 1}')
    assert convert(tmp_path / "a", "coco", tmp_path / "b") == 1
    assert f"error: {tmp_path}/a/{CATEGORY_IDS}: no id for 2 categories (zebra, no one's)" in capsys.readouterr().err
    for content in ("[1]", '{"apple": "x"}', '{"apple": 1, "zebra": 1}', "{", "{}"):
        (tmp_path / "a" / CATEGORY_IDS).write_text(content)
        assert convert(tmp_path / "a", "coco", tmp_path / "b") == 1
        message = capsys.readouterr().err
        assert message.startswith(f"error: {tmp_path}/a/{CATEGORY_IDS}: ")
        assert "expected a" in message


def test_json(with_gaps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(with_gaps, "yolo", tmp_path / "a", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["out"] == str(tmp_path / "a")
    assert printed["splits"][0]["images"] == 2
    assert "1 crowd boxes are left out" in printed["notes"][0]
    assert "1 of 2 images have no size" in printed["warnings"][0]


def test_a_val_part_is_held_out(with_gaps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(with_gaps, "voc", tmp_path / "a", "--val_fraction", "0.5") == 0
    assert open_detection(tmp_path / "a").names == ("train", "val")
    assert convert(tmp_path / "a", "coco", tmp_path / "b", "--val_fraction", "0.5") == 1
    assert "has a val part of its own; leave the flag out" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_an_interrupt_leaves_nothing(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_image, calls = OutputFolder.add_image, []

    def interrupted(output: OutputFolder, source: Path, name: str) -> None:
        calls.append(name)
        if len(calls) == 5:
            raise KeyboardInterrupt
        add_image(output, source, name)

    monkeypatch.setattr(OutputFolder, "add_image", interrupted)
    assert convert(generated_root, "yolo", tmp_path / "a") == 130
    assert len(calls) == 5
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err.endswith("interrupted\n")


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    for number, name in enumerate(["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/3.v2.jpg", "ox/4.png"]):
        (tmp_path / "classes" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "classes" / name, np.full((8, 8, 3), 40 * number, np.uint8))
    return tmp_path / "classes"


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_shards_of_classes(class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(class_folders, "webdataset", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "note: 2 files are renamed" in printed
    assert "note: 1 keys for train are not the names of their files" in printed
    found = members(tmp_path / "out/train-000000.tar")
    names = json.loads((tmp_path / "out/shards.json").read_text())["class_names"]
    assert names == ["cat", "dog", "ox"]
    assert len(found) == 10
    for key, (name, folder) in {
        "cat_1": ("1.jpg", "cat"),
        "2": ("2.jpg", "cat"),
        "dog_1": ("1.jpg", "dog"),
        "3_v2": ("3.v2.jpg", "dog"),  # a key ends at its first dot
        "4": ("4.png", "ox"),
    }.items():
        assert found[f"{key}{Path(name).suffix}"] == (class_folders / folder / name).read_bytes()
        assert names[int(found[f"{key}.cls"])] == folder


def test_shards_of_attributes(generated_roots: Callable[[str], Path], tmp_path: Path) -> None:
    root = generated_roots("attributes")
    assert convert(root, "webdataset", tmp_path / "out") == 0
    _, data = open_folder(root)
    for split in data.names:
        found, source = members(tmp_path / f"out/{split}-000000.tar"), data[split]
        assert len(found) == 2 * len(source)
        for row in range(len(source)):
            record = json.loads(found[f"{Path(source.id(row)).stem}.json"])
            assert list(record) == list(source.attribute_names)
            np.testing.assert_array_equal(list(record.values()), source.truth(row).values)


def test_shards_of_places_are_read_by_the_suite(generated_roots: Callable[[str], Path], tmp_path: Path) -> None:
    root = generated_roots("geolocation")
    assert convert(root, "webdataset", tmp_path / "out") == 0
    (_, original), (kind, data) = open_folder(root), open_folder(tmp_path / "out")
    assert kind == "geolocation"
    assert data.names == original.names
    for split in data.names:
        assert places(data[split]) == places(original[split])


def places(source: Any) -> dict[str, tuple[float, float]]:
    return {Path(source.id(row)).stem: (source.lat_deg[row], source.lng_deg[row]) for row in range(len(source))}


def test_data_without_boxes_are_no_boxes(
    class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(class_folders, "coco", tmp_path / "out") == 1
    assert capsys.readouterr().err == (
        "error: --to coco: these data have no boxes; they can be written as webdataset\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes"]


def test_examples_of_the_help_run(generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh clone, but with a few generated pictures in place of all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    shutil.copytree(generated_root, tmp_path / "cache" / f"sample-detection-v{sample.VERSION}")
    for verb in VERBS.values():
        for example in verb.examples:
            assert main(shlex.split(example)) == 0, example
