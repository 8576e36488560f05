"""The reader of YOLO's labels: layouts, data.yaml, lines, and its errors."""

from pathlib import Path

import numpy as np
import pytest

from datasets.detection.annotated import AnnotatedImages
from datasets.detection.read import open_detection
from datasets.detection.yolo import find_yolo
from datasets.splits import SplitData
from datasets.types import Split
from tests.datasets.detection.helpers import names, write

BOX = "0 0.5 0.5 0.5 0.5\n"
BOX_XYXY = [[15.0, 10.0, 45.0, 30.0]]  # in an image of 60 x 40


def opened(root: Path) -> SplitData[AnnotatedImages]:
    data = find_yolo(root)
    assert data is not None
    return data


def read_line(tmp_path: Path, text: str, settings: str = "names: [a, b]") -> AnnotatedImages:
    write(tmp_path, {"data.yaml": settings, "images/train/x.png": "", "labels/train/x.txt": text})
    return opened(tmp_path)["train"]


LAYOUTS = {
    "images and labels, then splits": ("images/{}/{}.png", "labels/{}/{}.txt"),
    "splits, then images and labels": ("{}/images/{}.png", "{}/labels/{}.txt"),
    "beside the images": ("{}/{}.png", "{}/{}.txt"),
    "in capitals": ("Images/{}/{}.png", "Labels/{}/{}.txt"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("settings", ["", "train: images/train\nval: images/valid\nnames: [cat]"])
def test_layouts(tmp_path: Path, layout: str, settings: str) -> None:
    image, label = LAYOUTS[layout]
    files = {"data.yaml": settings} if settings else {"classes.txt": "cat\n"}
    for split, stem in (("train", "a"), ("train", "b"), ("valid", "a")):
        files[image.format(split, stem)] = ""
        files[label.format(split, stem)] = BOX
    data = opened(write(tmp_path, files))
    assert data.names == ("train", "val")
    assert names(data["train"]) == [image.format("train", stem) for stem in "ab"]
    assert names(data["val"]) == [image.format("valid", "a")]
    for source in (data["train"], data["val"]):
        assert source.categories.names == ("cat",)
        for row in range(len(source)):
            np.testing.assert_allclose(source[row].truth.boxes_xyxy, BOX_XYXY)
    assert data["train"].warnings == []


@pytest.mark.parametrize(
    "settings",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: ['cat']\nnc: 1",
        "path: ../datasets/pets\ntrain: train/images\nval: valid/images\nnames: {0: cat}",
        "path: /home/someone/pets\ntrain: train/images\nval: [valid/images]\nnames: {0: cat}",
        "train: /content/pets/train/images\nval: C:\\pets\\valid\\images\nnames:\n  - cat",
        "train: train.txt\nval: lists/val.txt\nnames: [cat]",
        "\ufefftrain: train\r\nval: valid\r\nnames: [cat]\r\n",
    ],
)
def test_paths_of_data_yaml_are_found_below_the_folder(tmp_path: Path, settings: str) -> None:
    files = {
        "data.yaml": settings,
        "train.txt": "./train/images/a.png\n",
        "lists/val.txt": "/home/x/valid/images/a.png",
    }
    for split in ("train", "valid"):
        files |= {f"{split}/images/a.png": "", f"{split}/labels/a.txt": BOX}
    data = opened(write(tmp_path, files))
    assert data.names == ("train", "val")
    assert (names(data["train"]), names(data["val"])) == (["train/images/a.png"], ["valid/images/a.png"])
    assert data["train"].categories.names == ("cat",)


def test_a_path_that_names_a_split_is_not_found_in_another_folder(tmp_path: Path) -> None:
    settings = "train: ../train/images\nval: ../valid/images\nnames: [cat]"
    data = opened(write(tmp_path, {"data.yaml": settings, "images/a.png": "", "labels/a.txt": BOX}))
    assert data.names == ("train",)
    assert sum("there is no folder or list" in line for line in data["train"].warnings) == 2


@pytest.mark.parametrize("path", ["", "path: ../datasets/pets\n"])
def test_a_data_set_in_a_folder_of_its_own(tmp_path: Path, path: str) -> None:
    files = {"pets/data.yaml": f"{path}train: images/train\nval: images/val\nnames: [cat]"}
    for split in ("train", "val"):
        files |= {f"pets/images/{split}/a.png": "", f"pets/labels/{split}/a.txt": BOX}
    data = opened(write(tmp_path, files))
    assert data.found == "YOLO labels (pets/data.yaml): 1 train, 1 val images"
    assert names(data["val"]) == ["pets/images/val/a.png"]
    assert data["train"].categories.names == ("cat",)
    assert data["train"].warnings == []


def test_val_that_is_train_is_named(tmp_path: Path) -> None:
    settings = "train: images/train\nval: images/train\nnames: [cat]"
    data = opened(write(tmp_path, {"data.yaml": settings, "images/train/a.png": "", "labels/train/a.txt": BOX}))
    assert data.names == ("train", "val")
    assert any("1 of the 1 images of val are in another split too" in line for line in data["train"].warnings)


def test_a_listed_image_that_is_missing_is_kept(tmp_path: Path) -> None:
    files = {"data.yaml": "train: train.txt\nnames: [cat]", "train.txt": "images/a.png\nimages/gone.png\n"}
    source = opened(write(tmp_path, files | {"images/a.png": "", "labels/a.txt": BOX}))["train"]
    assert names(source) == ["images/a.png", "images/gone.png"]
    with pytest.raises(ValueError, match=r"gone\.png: No such file"):
        source[1]


def test_a_listed_name_that_is_too_long_for_a_file_is_kept(tmp_path: Path) -> None:
    long = "x" * 300 + "/" + "y" * 300
    files = {"train.txt": f"a.png\n{long}.png\n", "a.png": "", "a.txt": BOX}
    assert names(opened(write(tmp_path, files))["train"]) == ["a.png", f"{long}.png"]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("classes.txt", "cat\r\ndog\r\n", ("cat", "dog")),
        ("labels/classes.txt", "cat\ndog\n\n", ("cat", "dog")),
        ("obj.names", "cat\ndog", ("cat", "dog")),
        ("readme.md", "", ("0", "1")),
        ("data.yaml", "names: [no, 1]", ("no", "1")),
        ("data.yaml", "names: {0: cat, 1: dog, 7: owl}", ("cat", "dog", "owl")),
        ("other.yml", "names: [cat, dog]", ("cat", "dog")),
        ("data.yaml", "names: my.names", ("cat", "dog")),
    ],
)
def test_class_names(tmp_path: Path, file: str, text: str, expected: tuple[str, ...]) -> None:
    files = {"images/a.png": "", "labels/a.txt": "1 0.5 0.5 0.5 0.5", file: text}
    if "my.names" in text:
        files["my.names"] = "cat\ndog\n"
    categories = opened(write(tmp_path, files))["train"].categories
    assert categories.names == expected


def test_class_names_as_windows_writes_them(tmp_path: Path) -> None:
    root = write(tmp_path, {"images/a.png": "", "labels/a.txt": "1 0.5 0.5 0.5 0.5"})
    (root / "classes.txt").write_bytes("Käfer\r\nRüssel\r\n".encode("cp1252"))
    assert opened(root)["train"].categories.names == ("Käfer", "Rüssel")


def test_a_class_id_with_gaps_is_its_position(tmp_path: Path) -> None:
    source = read_line(tmp_path, "7 0.5 0.5 0.5 0.5", "names: {0: cat, 7: owl}")
    assert source.categories.ids == (0, 7)
    assert source.truth(0).class_ids.tolist() == [1]


def test_nc_that_disagrees_is_named(tmp_path: Path) -> None:
    source = read_line(tmp_path, BOX, "nc: 3\nnames: [a, b]")
    assert any("nc is 3, but there are 2 names" in line for line in source.warnings)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("1  0.5\t0.5   0.5 0.5  ", BOX_XYXY),
        ("\ufeff1 0.5 0.5 0.5 0.5\r\n\r\n", BOX_XYXY),
        ("1.0 0.5 0.5 0.5 0.5", BOX_XYXY),
        ("", np.zeros((0, 4))),
        ("1 0.25 0.25 0.75 0.25 0.5 0.75", BOX_XYXY),  # a triangle
        ("1 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5", BOX_XYXY),  # a rotated box
        ("1 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.75 0.25 0.5 1", [*BOX_XYXY, [15, 10, 45, 40]]),  # both kinds
        ("1 0.5 0.5 1.02 1", [[0, 0, 60, 40]]),  # rounded outwards
    ],
)
def test_lines(tmp_path: Path, text: str, boxes: object) -> None:
    truth = read_line(tmp_path, text).truth(0)
    np.testing.assert_allclose(truth.boxes_xyxy, boxes, atol=1e-5)
    assert set(truth.class_ids.tolist()) <= {1}


def test_poses_have_a_box_first(tmp_path: Path) -> None:
    source = read_line(tmp_path, "1 0.5 0.5 0.5 0.5 0.1 0.1 2 0.9 0.9 0", "kpt_shape: [2, 3]\nnames: [a, b]")
    np.testing.assert_allclose(source.truth(0).boxes_xyxy, BOX_XYXY)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "4 numbers; expected class"),
        ("0 0.5 0.5 0.5 0.5 0.9", "a sixth is the score of a prediction"),
        ("0 0.5 0.5 0.5 0.5 0.9 0.9 0.9", "8 numbers"),
        ("cat 0.5 0.5 0.5 0.5", "is not numbers"),
        ("0,0.5,0.5,0.5,0.5", "is not numbers"),
        ("2 0.5 0.5 0.5 0.5", "class 2 has no name, those from 0 to 1 have; add its name"),
        ("-1 0.5 0.5 0.5 0.5", "the class is -1.0"),
        ("0.5 0.5 0.5 0.5 0.5", "the class is 0.5"),
        ("nan 0.5 0.5 0.5 0.5", "the class is nan"),
        ("0 30 20 30 20", "looks like pixels"),
        ("0 nan 0.5 0.5 0.5", "is not finite"),
        ("0 0.5 0.5 inf 0.5", "is not finite"),
    ],
)
def test_faulty_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_line(tmp_path, f"{BOX}{line}\n")
    assert f"{tmp_path / 'labels/train/x.txt'}, line 2: " in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("names: [", "not valid YAML"),
        ("names: 5.names", "names: expected a list or a file"),
        ("names: []", "names: expected"),
        ("names: [[a]]", "names: expected"),
        ("names: {a: 0}", "names: expected"),
        ("names: {-1: a}", "names: expected"),
        ("names: [a]\nkpt_shape: 5", "kpt_shape: expected"),
    ],
)
def test_faulty_settings_are_named(tmp_path: Path, settings: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_line(tmp_path, BOX, settings)
    assert str(tmp_path / "data.yaml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    files = {
        "train/images/a.png": "",
        "train/labels/a.txt": BOX + BOX + "0 0.1 0.1 0 0.1\n",
        "train/images/background.png": "",
        "train/labels/lonely.txt": BOX,
        "train/labels/classes.txt": "cat",
        "other/b.png": "",
        "val/images/c.png": "",
        "val/labels/c.txt": "",
    }
    data = opened(write(tmp_path, files))
    train, val = data["train"], data["val"]
    assert (len(train), len(train.objects), len(val), len(val.objects)) == (2, 1, 1, 0)
    for line in (
        "train: 1 images have no label file: taken as images without objects",
        "train: 1 lines occur twice",
        "1 of 2 boxes are empty or wholly outside their image: dropped (the first is train/labels/a.txt, line 3)",
        "1 label file (train/labels/lonely.txt) without an image, left out",
        "1 image (other/b.png) of no split, left out",
    ):
        assert sum(line in warning for warning in train.warnings) == 1, (line, train.warnings)
    assert val.warnings == []


def test_accents_and_case_of_file_names(tmp_path: Path) -> None:
    files = {"images/zelle\u0301.png": "", "labels/zell\u00e9.txt": BOX, "images/B.png": "", "labels/b.txt": BOX}
    source = opened(write(tmp_path, files))["train"]
    assert len(source.objects) == 2


def test_an_image_that_cannot_be_read_keeps_its_place(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.png": "", "labels/a.txt": BOX, "images/b.png": "", "labels/b.txt": BOX})
    (tmp_path / "images/b.png").write_bytes(b"<html>")
    source = opened(tmp_path)["train"]
    assert (len(source), len(source.objects)) == (2, 1)
    with pytest.raises(ValueError, match=r"b\.png"):
        source[1]


@pytest.mark.parametrize("text", ["a photo of a cat", "Pedestrian 0.00 0 -1.57", ""])
def test_other_text_beside_images_is_not_yolo(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"a.png": "", "a.txt": text})
    assert find_yolo(tmp_path) is None
    with pytest.raises(ValueError, match=r"no boxes found; expected .*YOLO's text files"):
        open_detection(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train", {"apple": 156, "banana": 169, "orange": 140}),
        ("val", {"apple": 14, "banana": 18, "orange": 13}),
    ],
)
def test_real_labels_have_the_readme_s_counts(shared: Path, split: Split, counts: dict[str, int]) -> None:
    source = open_detection(shared / "data" / "yolo_fruit")[split]
    found = np.bincount(source.objects.class_ids, minlength=3).tolist()
    assert dict(zip(source.categories.names, found, strict=True)) == counts
    assert source.warnings == []


@pytest.mark.data
@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("val", "valid")])
def test_real_labels_equal_supervision(shared: Path, split: Split, folder: str) -> None:
    supervision = pytest.importorskip("supervision")
    root = shared / "data" / "yolo_fruit"
    source = open_detection(root)[split]
    reference = supervision.DetectionDataset.from_yolo(
        str(root / folder / "images"), str(root / folder / "labels"), str(root / "data.yaml")
    )
    assert list(source.categories.names) == reference.classes
    assert len(source) == len(reference)
    for path, _, expected in reference:
        truth = source.truth(names(source).index(str(Path(path).relative_to(root))))
        np.testing.assert_allclose(truth.boxes_xyxy, expected.xyxy, atol=0.01)
        np.testing.assert_array_equal(truth.class_ids, expected.class_id)
