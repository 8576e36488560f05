"""The reader of labelme's files: shapes, how the image is found, and its errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.detection.annotated import AnnotatedImages
from datasets.detection.labelme import find_labelme
from datasets.images.read import UnreadableImageError, write_image
from datasets.splits import SplitData
from tests.datasets.detection.helpers import names, write


def a_shape(kind: str | None = "rectangle", points: Any = ((15, 10), (45, 30)), label: Any = "cat", **more: Any) -> Any:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def content(*shapes: Any, image: Any = "x.png", height: Any = 40, width: Any = 60) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": "A" * 200_000,  # the image in base64, between the shapes and the size
        "imageHeight": height,
        "imageWidth": width,
    }


def opened(root: Path) -> SplitData[AnnotatedImages]:
    data = find_labelme(root)
    assert data is not None
    return data


def read_shapes(tmp_path: Path, *shapes: Any) -> AnnotatedImages:
    write(tmp_path, {"x.png": "", "x.json": content(*shapes)})
    return opened(tmp_path)["train"]


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("rectangle", [[15, 10], [45, 30]], [15, 10, 45, 30]),
        ("rectangle", [[45, 10], [15, 30]], [15, 10, 45, 30]),  # dragged from another corner
        ("rectangle", [[15, 10], [45, 10], [45, 30], [15, 30]], [15, 10, 45, 30]),
        ("polygon", [[20.5, 5], [40, 25], [10, 20]], [10, 5, 40, 25]),
        (None, [[20.5, 5], [40, 25], [10, 20]], [10, 5, 40, 25]),  # old versions have polygons only
        ("circle", [[30, 20], [33, 24]], [25, 15, 35, 25]),  # the centre and a point at a distance of 5
        ("oriented_rectangle", [[30, 10], [40, 20], [30, 30], [20, 20]], [20, 10, 40, 30]),
        ("mask", [[10, 5], [19, 14]], [10, 5, 20, 15]),  # the first and the last pixel
    ],
)
def test_shapes(tmp_path: Path, kind: str, points: Any, box: list[float]) -> None:
    source = read_shapes(tmp_path, a_shape(kind, points))
    np.testing.assert_allclose(source[0].truth.boxes_xyxy, [box])
    assert source.categories.names == ("cat",)
    assert source.warnings == []


def test_shapes_without_a_box_are_counted(tmp_path: Path) -> None:
    shapes = [a_shape("point", [[1, 2]]), a_shape("line"), a_shape("point", [[1, 2]], label=None), a_shape("linestrip")]
    source = read_shapes(tmp_path, *shapes, a_shape())
    assert len(source.objects) == 1
    for line in ("2 shapes are of the kind 'point': left out", "1 shapes are of the kind 'line':", "kind 'linestrip'"):
        assert sum(line in warning for warning in source.warnings) == 1


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    shapes = [
        a_shape(points=[[1, 1], [5, 5]], group_id=1),
        a_shape(points=[[1, 1], [9, 9]], group_id=1, label="dog"),
        a_shape(points=[[20, 3], [30, 9]], group_id=1),
        a_shape(points=[[1, 1], [5, 5]]),
    ]
    source = read_shapes(tmp_path, *shapes)
    np.testing.assert_array_equal(source.truth(0).boxes_xyxy, [[1, 1, 30, 9], [1, 1, 9, 9], [1, 1, 5, 5]])
    assert source.truth(0).class_ids.tolist() == [0, 1, 0]


def test_splits_by_folders_share_their_categories(tmp_path: Path) -> None:
    files: dict[str, Any] = {}
    for split, label in (("Train", "dog"), ("Validation", "cat")):
        files |= {f"{split}/x.png": "", f"{split}/x.json": content(a_shape(label=label))}
    data = opened(write(tmp_path, files))
    assert data.names == ("train", "val")
    assert names(data["train"]) == ["Train/x.png"]
    assert data["train"].categories.names == data["val"].categories.names == ("cat", "dog")
    assert data["train"].truth(0).class_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("image", "file", "path"),
    [
        ("x.png", "x.json", "x.png"),
        ("images/x.png", "json/x.json", "..\\images\\x.png"),
        ("images/x.png", "json/x.json", "../images/x.png"),
        ("images/photo.png", "json/x.json", "../images/photo.png"),
        ("images/x.png", "annotations/x.json", "elsewhere.png"),  # by the stem
        ("images/x.png", "annotations/y.json", "/home/someone/x.png"),
        ("x.png", "x.json", None),
        ("x.png", "x.json", ""),
        ("X.PNG", "y.json", "x.png"),
    ],
)
def test_the_image_is_found(tmp_path: Path, image: str, file: str, path: str | None) -> None:
    write(tmp_path, {"other.png": "", file: content(a_shape(), image=path)})
    write_image(write(tmp_path, {image.lower(): ""}) / "t.png", np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "t.png").unlink()
    if image != image.lower():
        (tmp_path / image.lower()).rename(tmp_path / image)
    source = opened(tmp_path)["train"]
    assert names(source) == [image]
    assert any("1 image (other.png) without an annotation file, left out" in line for line in source.warnings)
    assert len(source[0].truth) == 1


def test_copied_files_that_name_one_image_have_their_own(tmp_path: Path) -> None:
    files = {"a.png": "", "a.json": content(a_shape(), image="a.png")}
    files |= {"b.png": "", "b.json": content(a_shape(), image="a.png")}
    assert names(opened(write(tmp_path, files))["train"]) == ["a.png", "b.png"]


def test_an_image_that_is_missing_is_kept(tmp_path: Path) -> None:
    files = {"a.png": "", "a.json": content(a_shape(), image="a.png"), "b.json": content(a_shape(), image="b.png")}
    source = opened(write(tmp_path, files))["train"]
    assert names(source) == ["a.png", "b.png"]
    with pytest.raises(UnreadableImageError, match=r"b\.png: No such file"):
        source[1]


@pytest.mark.parametrize("size", [None, 0, "big"])
def test_a_size_that_is_missing_is_that_of_the_file(tmp_path: Path, size: Any) -> None:
    write(tmp_path, {"x.png": "", "x.json": content(a_shape(), height=size, width=size)})
    assert opened(tmp_path)["train"].truth(0).image_hw == (40, 60)


def test_json_of_other_kinds_is_counted(tmp_path: Path) -> None:
    source = opened(write(tmp_path, {"x.png": "", "x.json": content(a_shape()), "settings.json": {"a": 1}}))["train"]
    assert len(source) == 1
    assert sum("1 annotation files are of another kind: left out" in line for line in source.warnings) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not valid JSON"),
        ('{"shapes": ' + "[" * 100_000, "not valid JSON"),
        (content("cat"), "shape 1: expected an object"),
        (content(a_shape(), a_shape(label=None)), "shape 2: expected a 'label', got None"),
        (content(a_shape(label=" ")), "shape 1: expected a 'label', got ' '"),
        (content(a_shape(points=[[1, 2]])), "shape 1: a rectangle has 2 'points'"),
        (content(a_shape("polygon", [[1, 2], [3, 4]])), "shape 1: a polygon has 3 'points'"),
        (content(a_shape(points=None)), "shape 1: a rectangle has"),
        (content(a_shape(points=[[1, 2], [3, float("nan")]])), "shape 1: a rectangle has"),
        (content(a_shape(points=[[1, 2], [3, 10**400]])), "shape 1: a rectangle has"),
    ],
)
def test_faults_are_named(tmp_path: Path, value: Any, message: str) -> None:
    write(tmp_path, {"w.png": "", "w.json": content(a_shape(), image="w.png"), "x.png": "", "x.json": value})
    with pytest.raises(ValueError, match=message) as raised:
        opened(tmp_path)["train"]
    assert str(tmp_path / "x.json") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_halves_of_characters(tmp_path: Path) -> None:
    """JSON can have them as escapes; no file name and no printed line can."""
    source = opened(write(tmp_path, {"x.json": content(a_shape(label="\ud83d"), image="\ud83d.png")}))["train"]
    assert names(source) == ["\ufffd.png"]
    assert source.categories.names == ("\ufffd",)


def test_other_json_is_not_labelme(tmp_path: Path) -> None:
    assert find_labelme(write(tmp_path, {"a.png": "", "a.json": {"boxes": []}})) is None


def test_shapes_equal_supervision(tmp_path: Path, rng: np.random.Generator) -> None:
    supervision = pytest.importorskip("supervision")
    for number in range(20):
        shapes = []
        for _ in range(rng.integers(0, 6)):
            kind, count = (("rectangle", 2), ("polygon", int(rng.integers(3, 9))))[int(rng.integers(2))]
            points = (rng.uniform(0, 1, (count, 2)) * (60, 40)).tolist()
            group = int(rng.integers(3)) if rng.uniform() < 0.3 else None
            shapes.append(a_shape(kind, points, str(rng.choice(["cat", "dog", "owl"])), group_id=group))
        write(tmp_path, {f"{number}.png": "", f"{number}.json": content(*shapes, image=f"{number}.png")})
    source = opened(tmp_path)["train"]
    reference = supervision.DetectionDataset.from_labelme(str(tmp_path), str(tmp_path))
    assert list(source.categories.names) == reference.classes
    assert len(source) == len(reference) == 20
    for row in range(20):
        truth, expected = source.truth(row), reference.annotations[source.id(row)]
        np.testing.assert_allclose(truth.boxes_xyxy, expected.xyxy, atol=1e-4)
        assert truth.class_ids.tolist() == ([] if expected.class_id is None else expected.class_id.tolist())
