"""A result is in the photo's own pixels, says the same in every form, and has the same form whatever is found."""

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from datasets.images.read import read_image
from datasets.types import Attributes, Detections, Face, Image, Label
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask
from tasks.classification.config import ClassificationConfig
from tasks.classification.task import ClassificationTask
from tasks.common.prediction.result import MAX_NOTEBOOK_SIDE_PX, Result
from tasks.common.prediction.sources import InputImage
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask
from tasks.embedding.config import EmbeddingConfig
from tasks.embedding.task import EmbeddingTask
from tests.yunet import write_detector

HEIGHT, WIDTH = 200, 400
DETECTION = DetectionTask(DetectionConfig(), {"category_ids": [18, 2], "class_names": ["dog", "bicycle"]})
# In the frame of a network's input of 100 x 100 pixels, which the photo is stretched to: times 4 and 2 in the photo.
BOXES = np.array([[10, 10, 30, 60], [0, 50, 50, 100], [5, 5, 95, 95]], np.float32)
IN_PHOTO = [[40.0, 20.0, 120.0, 120.0], [0.0, 100.0, 200.0, 200.0], [20.0, 10.0, 380.0, 190.0]]
SCORES = np.array([0.71875, 0.875, 0.9375], np.float32)  # exact in binary
CLASS_IDS = np.array([1, 0, 0])


def photo() -> Image:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def result_of(task: Any, *predicted: Any) -> Result[Any]:
    in_image = tuple(task.in_image(one, (HEIGHT, WIDTH)) for one in predicted)
    return Result(InputImage("street.jpg", None, photo()), in_image, (), task)


@pytest.fixture
def found() -> Result[Detections]:
    return result_of(DETECTION, Detections(BOXES, CLASS_IDS, (100, 100), scores=SCORES))


@pytest.fixture
def nothing() -> Result[Detections]:
    return result_of(DETECTION, Detections(BOXES[:0], CLASS_IDS[:0], (100, 100), scores=np.zeros(0, np.float32)))


def test_boxes_are_in_pixels_of_the_photo(found: Result[Detections]) -> None:
    (objects,) = found.predictions
    assert objects.image_hw == (HEIGHT, WIDTH)
    assert objects.boxes_xyxy.tolist() == IN_PHOTO
    assert [item["box_xyxy"] for item in found.to_dict()["detections"]] == IN_PHOTO
    assert found.to_pandas()[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == IN_PHOTO


def test_record_is_json_with_name_and_size(found: Result[Detections]) -> None:
    record = json.loads(json.dumps(found.to_dict()))
    header = {"image": "street.jpg", "frame": None, "width": WIDTH, "height": HEIGHT}
    assert header.items() <= record.items()
    assert [item["category_id"] for item in record["detections"]] == [2, 18, 18]


def test_table_of_nothing_has_the_same_columns_and_types(
    found: Result[Detections], nothing: Result[Detections]
) -> None:
    table, empty = found.to_pandas(), nothing.to_pandas()
    assert (len(table), len(empty)) == (3, 0)
    assert list(empty.columns) == list(table.columns)
    assert list(empty.dtypes) == list(table.dtypes)
    assert table["class_name"].tolist() == ["bicycle", "dog", "dog"]
    assert table["category_id"].tolist() == [2, 18, 18]
    assert table["score"].tolist() == SCORES.tolist()
    assert table["image"].tolist() == ["street.jpg"] * 3
    assert table["frame"].isna().all()


def test_coco_results_are_read_by_pycocotools(
    found: Result[Detections], nothing: Result[Detections], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycocotools.coco import COCO

    categories = [{"id": 18, "name": "dog"}, {"id": 2, "name": "bicycle"}]
    images = [{"id": 7, "width": WIDTH, "height": HEIGHT}]
    (tmp_path / "truth.json").write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    (tmp_path / "found.json").write_text(json.dumps(found.to_coco(image_id=7)))
    loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "found.json"))
    annotations = loaded.loadAnns(loaded.getAnnIds(imgIds=[7]))
    names = [loaded.cats[annotation["category_id"]]["name"] for annotation in annotations]
    assert names == ["bicycle", "dog", "dog"]
    corners = [[x, y, x + width, y + height] for x, y, width, height in (item["bbox"] for item in annotations)]
    assert corners == IN_PHOTO
    assert [item["score"] for item in annotations] == SCORES.tolist()
    assert nothing.to_coco(image_id=7) == []


def test_supervision_detections_have_the_same_objects(found: Result[Detections], nothing: Result[Detections]) -> None:
    import supervision

    expected = supervision.Detections(
        xyxy=np.array(IN_PHOTO, np.float32),
        confidence=SCORES,
        class_id=CLASS_IDS,
        data={"class_name": np.array(["bicycle", "dog", "dog"])},
    )
    assert found.to_supervision() == expected
    empty = nothing.to_supervision()
    assert (len(empty), empty.is_empty()) == (0, True)
    assert len(supervision.Detections.merge([empty, expected])) == 3


def test_crops_are_the_parts_in_the_boxes(found: Result[Detections], nothing: Result[Detections]) -> None:
    image = found.source.image
    for crop, (x0, y0, x1, y1) in zip(found.crops(), np.array(IN_PHOTO, int).tolist(), strict=True):
        np.testing.assert_array_equal(crop, image[y0:y1, x0:x1])
    assert nothing.crops() == []


def test_crops_change_nothing_and_leave_out_what_is_outside() -> None:
    boxes = np.array([[-10, -10, 0, 5], [90.4, 90.4, 130, 130]], np.float32)
    result = result_of(DETECTION, Detections(boxes, CLASS_IDS[:2], (100, 100), scores=SCORES[:2]))
    (crop,) = result.crops()
    assert crop.shape == (HEIGHT - 180, WIDTH - 361, 3)  # the whole of the pixels that the box touches
    crop[:] = 0
    np.testing.assert_array_equal(result.source.image, photo())


def test_line_names_classes_by_their_best_score(found: Result[Detections], nothing: Result[Detections]) -> None:
    assert str(found) == "2 x dog 0.94 0.88, bicycle 0.72"
    assert str(nothing) == "nothing found with a score of 0.3 or more"


@pytest.mark.parametrize(("num_classes", "line"), [(1, "30 x 0 0.90 0.90 0.90 0.90 0.90 ..."), (30, " and 24 more")])
def test_long_lines_are_cut(num_classes: int, line: str) -> None:
    names = [str(class_id) for class_id in range(num_classes)]
    task = DetectionTask(DetectionConfig(), {"category_ids": list(range(num_classes)), "class_names": names})
    boxes, scores = np.tile(BOXES[:1], (30, 1)), np.full(30, 0.9, np.float32)
    text = str(result_of(task, Detections(boxes, np.arange(30) % num_classes, (100, 100), scores=scores)))
    assert text.endswith(line)
    assert len(text) < 80


def test_lines_of_the_other_tasks(tmp_path: Path) -> None:
    names = {"data": "folders", "class_names": ["golden_retriever", "Labrador", "tabby"]}
    classification = ClassificationTask(ClassificationConfig(), names)
    label = Label(0, np.array([0.928, 0.067, 0.005], np.float32))
    assert str(result_of(classification, label)) == "golden retriever 0.93, Labrador 0.07"
    assert str(result_of(classification, Label(2, np.array([0, 0, 1], np.float32)))) == "tabby 1.00"

    attributes = AttributesTask(AttributesConfig(), {"attribute_names": ["Smiling", "Hat"], "prevalence": [0.5, 0.5]})
    smiling, both = (Attributes(np.array(values, np.float32)) for values in ([0.75, 0.25], [0.5, 0.875]))
    assert str(result_of(attributes, smiling)) == "Smiling 0.75"
    assert str(result_of(attributes, both)) == "Hat 0.88, Smiling 0.50"

    embedding = EmbeddingTask(EmbeddingConfig(), {"identities": []})
    face = Face(embedding=np.ones(4, np.float32) / 2)
    assert str(result_of(embedding, face)) == "embedding of 4 dimensions"
    data = dataclasses.replace(embedding.config.data, align=write_detector(tmp_path / "yunet.onnx"))
    detecting = EmbeddingTask(dataclasses.replace(embedding.config, data=data), {"identities": []})
    assert [str(result_of(detecting, *[face] * count)) for count in range(3)] == ["no face found", "1 face", "2 faces"]


def test_saved_picture_is_the_drawn_one(found: Result[Detections], tmp_path: Path) -> None:
    found.save(tmp_path / "found.png")
    found.save(tmp_path / "found.png")  # replaces it
    np.testing.assert_array_equal(read_image(tmp_path / "found.png"), found.draw())
    assert not np.array_equal(found.draw(), DETECTION.draw(photo(), found.predictions[0].select(np.arange(0))))
    np.testing.assert_array_equal(found.source.image, photo())
    with pytest.raises(ValueError, match=r"found\.txt: expected the name of an image file"):
        found.save(tmp_path / "found.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["found.png"]


def test_notebook_shows_a_small_picture_and_the_line() -> None:
    task = DetectionTask(DetectionConfig(), {"category_ids": [1], "class_names": ["<b>"]})
    large = np.zeros((1500, 3000, 3), np.uint8)
    objects = Detections(BOXES[:1] * 15, np.array([0]), large.shape[:2], scores=SCORES[:1])
    text = Result(InputImage("large.jpg", None, large), (objects,), (), task)._repr_html_()
    assert "&lt;b&gt; 0.72" in text
    data = base64.b64decode(text.partition("base64,")[2].partition('"')[0])
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (MAX_NOTEBOOK_SIDE_PX, MAX_NOTEBOOK_SIDE_PX // 2)


def test_show_opens_the_drawn_picture(found: Result[Detections], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image] = []
    monkeypatch.setattr(PIL.Image.Image, "show", lambda self, title: shown.append(np.asarray(self)))
    found.show()
    np.testing.assert_array_equal(shown[0], found.draw())


def test_forms_of_other_tasks_are_refused() -> None:
    result = result_of(EmbeddingTask(EmbeddingConfig(), {"identities": []}), Face(embedding=np.ones(1, np.float32)))
    for name, call in (("to_coco", lambda: result.to_coco(1)), ("to_supervision", result.to_supervision)):
        with pytest.raises(ValueError, match=f"{name}: tasks.embedding does not detect objects"):
            call()


@pytest.mark.parametrize("package", ["pandas", "supervision"])
def test_missing_package_is_named(package: str, found: Result[Detections], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package} is not installed; `pip install {package}` installs it"):
        getattr(found, f"to_{package}")()
