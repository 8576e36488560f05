"""The reader against pycocotools, and its errors for faulty files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from datasets.coco import CocoDetection
from datasets.images import UnreadableImageError, write_image


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


def read(folder: Path, content: Any) -> CocoDetection:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    write_image(images / "a.png", np.zeros((40, 60, 3), np.uint8))
    write_image(images / "b.png", np.zeros((30, 30, 3), np.uint8))
    (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return CocoDetection(images, folder / "a.json")


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
    data, reference = CocoDetection(root / split, file), COCO(str(file))
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
    assert "2 boxes reach outside their image: clipped (the first is annotation 1)" in data.warnings[0]
    assert "2 boxes are empty or wholly outside their image: dropped (the first is annotation 2)" in data.warnings[1]


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
        ("annotations", "bbox", [0, 0, float("nan"), 1], "annotation 1: 'bbox' .* not finite"),
        ("annotations", "area", "big", "'area' must be a number"),
        ("images", "file_name", "../secret.png", "points outside its folder"),
        ("images", "file_name", "gone.png", "1 of 2 image files are missing, the first is .*gone.png"),
        ("images", "height", 0, "'a.png' has no positive size"),
        ("images", "height", None, "'images': expected objects with"),
        ("images", "id", 3, "1 ids occur more than once"),
        ("categories", "id", "x", "'categories': expected objects"),
        ("categories", "id", 4, "'categories': expected distinct ids"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: Any, group: str, key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read(tmp_path, change(content, group, key, value))
    assert "a.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not valid JSON"), ("[]", "not in COCO's format"), ('{"images": []}', "'annotations'")]
)
def test_files_without_annotations_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json: No such file"):
        CocoDetection(tmp_path, tmp_path / "none.json")


def test_an_image_of_another_size_than_annotated_is_unreadable(tmp_path: Path, content: dict[str, Any]) -> None:
    data = read(tmp_path, change(content, "images", "width", 61))
    with pytest.raises(UnreadableImageError, match="its annotations are for 61 x 40"):
        data[0]
