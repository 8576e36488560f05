"""The reader against pycocotools, and its errors for faulty files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from datasets.detection.annotated import AnnotatedImages
from datasets.detection.coco import read_coco
from datasets.detection.read import open_detection
from datasets.images.read import UnreadableImageError, write_image
from datasets.splits import Holdout


@pytest.fixture
def content() -> dict[str, Any]:
    """Two images (the second without objects), two categories with a gap between their ids."""
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 3, "file_name": "b.png", "height": 30, "width": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [10, 5, 20, 10], "area": 150, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 5, 5], "area": 20, "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 4, "name": "motorcycle"}],
    }


def read(folder: Path, content: Any) -> AnnotatedImages:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    write_image(images / "a.png", np.zeros((40, 60, 3), np.uint8))
    write_image(images / "b.png", np.zeros((30, 30, 3), np.uint8))
    (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco(folder, folder / "a.json", "images")


def test_boxes_classes_and_crowds(tmp_path: Path, content: dict[str, Any]) -> None:
    data = read(tmp_path, content)
    assert data.categories.ids == (4, 90)
    assert data.categories.names == ("motorcycle", "toothbrush")
    example = data[0]
    assert example.image.shape == (40, 60, 3)
    np.testing.assert_array_equal(example.truth.boxes_xyxy, [[10, 5, 30, 15], [0, 0, 5, 5]])
    assert example.truth.class_ids.tolist() == [1, 0]
    assert example.truth.is_crowd is not None
    assert example.truth.is_crowd.tolist() == [False, True]
    assert len(data[1].truth) == 0
    assert data.warnings == []


@pytest.mark.data
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_annotations_equal_pycocotools(split: str, shared: Path) -> None:
    root = shared / "data" / "coco128"
    file = root / "annotations" / f"instances_{split}.json"
    data, reference = read_coco(root, file, split), COCO(str(file))
    assert list(data.categories.ids) == sorted(reference.getCatIds())
    assert len(data.categories.ids) == 80
    for index, image_id in enumerate(image["id"] for image in reference.dataset["images"]):
        annotations = reference.imgToAnns[image_id]
        truth = data.truth(index)
        assert [data.categories.ids[c] for c in truth.class_ids] == [a["category_id"] for a in annotations]
        boxes = np.array([a["bbox"] for a in annotations]).reshape(-1, 4)
        sizes = truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]
        np.testing.assert_allclose(np.concatenate([truth.boxes_xyxy[:, :2], sizes], 1), boxes, atol=0.01)


def test_boxes_outside_are_clipped_and_empty_ones_dropped_with_a_warning(tmp_path: Path, content: Any) -> None:
    boxes = [[50, 30, 30, 30], [10, 10, 0, 5], [100, 100, 5, 5], [-5, -5, 20, 20]]
    content["annotations"] = [
        {"id": row, "image_id": 7, "category_id": 4, "bbox": box} for row, box in enumerate(boxes, start=1)
    ]
    data = read(tmp_path, content)
    np.testing.assert_array_equal(data.truth(0).boxes_xyxy, [[50, 30, 60, 40], [0, 0, 15, 15]])
    assert len(data.warnings) == 2
    assert "2 of 4 boxes reach outside their image: clipped (the first is annotation 1)" in data.warnings[0]
    assert (
        "2 of 4 boxes are empty or wholly outside their image: dropped (the first is annotation 2)" in data.warnings[1]
    )


def change(content: dict[str, Any], group: str, key: str, value: Any) -> dict[str, Any]:
    content[group][0][key] = value
    return content


@pytest.mark.parametrize(
    ("group", "key", "value", "message"),
    [
        ("annotations", "image_id", 99, "annotation 1: image_id 99 is not in 'images'"),
        ("annotations", "category_id", 5, "annotation 1: category_id 5 is not in 'categories'"),
        ("annotations", "bbox", [1, 2, 3], "annotation 1: 'bbox' must be"),
        ("annotations", "bbox", 5, "annotation 1: 'bbox' must be"),
        ("annotations", "bbox", [5], "annotation 1: 'bbox' must be"),
        ("annotations", "bbox", "wide", "annotation 1: 'bbox' must be"),
        ("annotations", "bbox", [0, 0, float("nan"), 1], "annotation 1: the box .* is not finite"),
        ("annotations", "area", "big", "'area' must be a number"),
        ("annotations", "area", float("-inf"), "'area' must be a number"),
        ("annotations", "area", 1e300, "'area' must be a number"),
        ("annotations", "bbox", [1e308, 0, 1e308, 1], "annotation 1: 'bbox' must be"),
        ("annotations", "iscrowd", "no", "annotation 1: 'iscrowd' must be 0 or 1"),
        ("images", "file_name", None, "number 1 has no 'file_name'"),
        ("images", "id", None, "number 1 has no 'id'"),
        ("images", "id", 3, "id 3 occurs more than once"),
        ("categories", "id", None, "'categories': expected an 'id' and a 'name'"),
        ("categories", "name", None, "'categories': expected an 'id' and a 'name'"),
        ("categories", "id", 4, "'categories': expected distinct ids"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: Any, group: str, key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read(tmp_path, change(content, group, key, value))
    assert "a.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not in COCO's format"),
        ('{"images": []}', "'annotations'"),
        ('{"images": [], "annotations": [], "categories": []}', "'categories' is empty"),
    ],
)
def test_files_without_annotations_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json: No such file"):
        read_coco(tmp_path, tmp_path / "none.json")


def test_an_image_of_another_size_than_annotated_is_unreadable(tmp_path: Path, content: dict[str, Any]) -> None:
    data = read(tmp_path, change(content, "images", "width", 61))
    with pytest.raises(UnreadableImageError, match="its annotations are for 61 x 40"):
        data[0]


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("annotations", "image_id", "7"),
        ("annotations", "category_id", "90"),
        ("annotations", "bbox", ["10", "5", "20", "10"]),
        ("annotations", "iscrowd", "0"),
        ("annotations", "iscrowd", False),
        ("annotations", "iscrowd", None),
        ("annotations", "area", "150"),
        ("images", "id", "7"),
        ("images", "id", 7.0),
        ("images", "height", "40"),
        ("images", "height", None),
        ("images", "width", 0),
        ("categories", "id", "90"),
    ],
)
def test_numbers_as_text_and_absent_sizes_are_read(
    tmp_path: Path, content: Any, group: str, key: str, value: Any
) -> None:
    expected = read(tmp_path, content).truth(0)
    truth = read(tmp_path, change(content, group, key, value)).truth(0)
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(truth, name), array)


def test_hashes_as_ids(tmp_path: Path, content: dict[str, Any]) -> None:
    expected = read(tmp_path, content).truth(0)
    for group, keys in (("images", ["id"]), ("categories", ["id"]), ("annotations", ["image_id", "category_id"])):
        for value in content[group]:
            value |= {key: f"hash-{value[key]}" for key in keys}
    data = read(tmp_path, content)
    assert data.categories.names == ("toothbrush", "motorcycle")  # in the order of the file
    assert data.categories.ids == (1, 2)
    np.testing.assert_array_equal(data.truth(0).boxes_xyxy, expected.boxes_xyxy)
    assert [data.categories.names[class_id] for class_id in data.truth(0).class_ids] == ["toothbrush", "motorcycle"]


def test_areas_of_null_are_counted(tmp_path: Path, content: dict[str, Any]) -> None:
    content["annotations"][0]["area"] = None
    assert "1 of 2 boxes have area null: the area of the box is taken" in read(tmp_path, content).warnings[0]


@pytest.mark.parametrize("area", [None, "absent"])
def test_without_an_area_it_is_that_of_the_box(tmp_path: Path, content: dict[str, Any], area: str | None) -> None:
    content["annotations"][0]["area"] = area
    if area == "absent":
        del content["annotations"][0]["area"]
    areas_px = read(tmp_path, content).truth(0).areas_px
    assert areas_px is not None
    assert areas_px.tolist() == [200, 20]


def test_polygons_stand_in_for_a_missing_box(tmp_path: Path, content: dict[str, Any]) -> None:
    content["annotations"][0] |= {"bbox": [], "segmentation": [[10, 5, 30, 9, 12, 15], [11, 6, 12, 7, 13, 8]]}
    np.testing.assert_array_equal(read(tmp_path, content).truth(0).boxes_xyxy[0], [10, 5, 30, 15])


@pytest.mark.parametrize(
    ("box", "message"),
    [([30, 20, 58, 38], "1 of 1 boxes look like corners"), ([0.2, 0.3, 0.5, 0.5], "look like fractions of the image")],
)
def test_boxes_of_another_kind_are_refused(tmp_path: Path, content: Any, box: list[float], message: str) -> None:
    content["annotations"] = [{"id": 1, "image_id": 7, "category_id": 4, "bbox": box}]
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_byte_order_mark_is_ignored(tmp_path: Path, content: dict[str, Any], start: str) -> None:
    assert len(read(tmp_path, start + json.dumps(content))) == 2


def write_split(folder: Path, file: Path, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, hw in (("a.png", (40, 60)), ("b.png", (30, 30))):
        write_image(folder / name, np.zeros((*hw, 3), np.uint8))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("train2017", "annotations/instances_train2017.json"),
        ("train", "train/_annotations.coco.json"),
        ("train", "annotations/train.json"),
        ("images/train", "annotations/train.json"),
        ("Training/images", "Training/annotations.json"),
        ("images", "train.json"),
        ("all", "all.json"),
        (".", "labels.json"),
        ("photos/of/2024", "result.json"),
    ],
)
def test_files_are_found(tmp_path: Path, content: dict[str, Any], images: str, annotations: str) -> None:
    write_split(tmp_path / images, tmp_path / annotations, content)
    data = open_detection(tmp_path)
    assert data.names == ("train",)
    assert [data["train"].id(row) for row in range(2)] == [str(tmp_path / images / name) for name in ("a.png", "b.png")]
    assert annotations in data.found


@pytest.mark.parametrize(("train", "val", "test"), [("train", "valid", "test"), ("Training", "Validation", "Testing")])
def test_splits_in_any_case(tmp_path: Path, content: dict[str, Any], train: str, val: str, test: str) -> None:
    for folder in (train, val, test):
        write_split(tmp_path / folder, tmp_path / folder / "_annotations.coco.json", content)
    data = open_detection(tmp_path)
    assert data.names == ("train", "val", "test")
    assert data["val"].id(0) == str(tmp_path / val / "a.png")


def test_several_files_for_a_split_are_named(tmp_path: Path, content: dict[str, Any]) -> None:
    for name in ("first", "second"):
        write_split(tmp_path / "images", tmp_path / f"{name}.json", content)
    with pytest.raises(ValueError, match=r"2 annotation files .*first.json, second.json.*--data.train_annotations"):
        open_detection(tmp_path)["train"]
    data = open_detection(tmp_path, annotations={"train": "second.json"})
    assert data.names == ("train",)
    assert "1 annotation file (first.json) not used" in data["train"].warnings[0]


def test_files_given_for_one_split_leave_the_others_to_be_found(tmp_path: Path, content: dict[str, Any]) -> None:
    write_split(tmp_path / "train2017", tmp_path / "annotations/instances_train2017.json", content)
    write_split(tmp_path / "val2017", tmp_path / "annotations/instances_val2017.json", content)
    few = content | {"images": content["images"][:1]}
    (tmp_path / "few.json").write_text(json.dumps(few))
    data = open_detection(tmp_path, annotations={"train": "few.json"}, holdout=Holdout(0, 0.5))
    assert {split: len(data[split]) for split in data.names} == {"train": 1, "val": 2}
    data = open_detection(tmp_path, annotations={"val": "few.json"}, holdout=Holdout(0, 0.5))
    assert {split: len(data[split]) for split in data.names} == {"train": 2, "val": 1}


def test_a_given_folder_of_images_must_be_there(tmp_path: Path, content: dict[str, Any]) -> None:
    write_split(tmp_path / "images", tmp_path / "train.json", content)
    with pytest.raises(ValueError, match="imges: there is no such folder; expected that of the images for train"):
        open_detection(tmp_path, images={"train": "imges"})["train"]


def test_images_that_no_file_names_are_counted(tmp_path: Path, content: dict[str, Any]) -> None:
    for split in ("train", "val"):
        write_split(tmp_path / split, tmp_path / f"{split}.json", content)
    data = open_detection(tmp_path)
    assert data["train"].warnings == []
    write_image(tmp_path / "val/c.png", np.zeros((4, 4, 3), np.uint8))
    data = open_detection(tmp_path)
    assert data["train"].warnings == [f"{tmp_path}: 1 image (val/c.png) in no annotation file, left out"]
    assert data["val"].warnings == []


def test_two_categories_of_one_name_stay_two(tmp_path: Path, content: dict[str, Any]) -> None:
    content["categories"][0]["name"] = "motorcycle"
    data = read(tmp_path, content)
    assert data.truth(0).class_ids.tolist() == [1, 0]
    assert "1 name (motorcycle) of several categories: each stays a class of its own" in data.warnings[0]


def test_a_folder_with_the_name_of_a_json_file_is_passed_over(tmp_path: Path, content: dict[str, Any]) -> None:
    write_split(tmp_path / "images", tmp_path / "train.json", content)
    (tmp_path / "instances_val.json").mkdir()
    assert open_detection(tmp_path).names == ("train",)


def test_a_folder_without_annotations_is_described(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"no boxes found; expected .*'images'.*found 1 \.png"):
        open_detection(tmp_path)
