"""Official category ids and contiguous class ids, in both directions."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.types import Detections
from tasks.detection.config import DetectionConfig, DetectionDataConfig
from tasks.detection.task import DetectionTask

GAPS = {1: 2, 2: 3, 3: 50, 4: 51, 5: 90}  # the sample's ids -> ids with gaps, as COCO's


def rewrite(root: Path, split: str, new_ids: dict[int, int], names: dict[int, str] | None = None) -> None:
    file = root / "annotations" / f"instances_{split}.json"
    content: dict[str, Any] = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = new_ids[annotation["category_id"]]
    for category in content["categories"]:
        category["name"] = (names or {}).get(category["id"], category["name"])
        category["id"] = new_ids[category["id"]]
    content["categories"].reverse()  # the order in the file is irrelevant
    file.write_text(json.dumps(content))


@pytest.fixture
def root(generated_root: Path, tmp_path: Path) -> Path:
    return shutil.copytree(generated_root, tmp_path / "data")


def task_for(root: Path) -> DetectionTask:
    return DetectionTask.from_data(DetectionConfig(data=DetectionDataConfig(root=str(root), input_size=64)))


def test_records_have_official_ids_and_pixels_of_the_image(root: Path) -> None:
    for split in ("train2017", "val2017"):
        rewrite(root, split, GAPS)
    task = task_for(root)
    assert task.metadata["category_ids"] == [2, 3, 50, 51, 90]
    assert task.class_names == ["balloon", "boat", "car", "house", "tree"]
    predicted = Detections(
        np.array([[8, 16, 32, 64], [0, 0, 9, 9]], np.float32),
        np.array([4, 2]),
        (64, 64),
        scores=np.array([0.75, 0.1], np.float32),
    )
    record = task.describe(predicted, (128, 640))
    assert record == {
        "detections": [{"class_name": "tree", "category_id": 90, "score": 0.75, "box_xyxy": [80.0, 32.0, 320.0, 128.0]}]
    }  # the second is below the threshold


def test_truth_does_not_depend_on_the_ids(root: Path, generated_root: Path) -> None:
    rewrite(root, "train2017", GAPS)
    source, original = task_for(root).source("train"), task_for(generated_root).source("train")
    for index in range(len(original)):
        np.testing.assert_array_equal(source.truth(index).class_ids, original.truth(index).class_ids)


def test_validation_with_other_categories_is_refused(root: Path) -> None:
    rewrite(root, "val2017", {k: k for k in GAPS}, {2: "ship"})
    expected = r"objects of 1 category \(ship\) that .* do not have.* 5 categories \(balloon, boat, car, house and"
    with pytest.raises(ValueError, match=expected):
        task_for(root).source("val")
