"""The reader of Pascal VOC: layouts, lists, coordinates, and its errors."""

from pathlib import Path

import numpy as np
import pytest

from datasets.detection.annotated import AnnotatedImages
from datasets.detection.read import open_detection
from datasets.detection.voc import find_voc
from datasets.images.read import UnreadableImageError
from datasets.splits import SplitData
from datasets.types import Split
from tests.datasets.detection.helpers import names, write

SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"


def an_object(box: str = "16 11 45 30", name: str = "cat", more: str = "") -> str:
    xmin, ymin, xmax, ymax = box.split()
    return (
        f"<object><name>{name}</name>{more}<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


def xml(content: str = an_object(), filename: str = "x.png", size: str = SIZE) -> str:
    return f"<annotation><filename>{filename}</filename>{size}{content}</annotation>"


def opened(root: Path) -> SplitData[AnnotatedImages]:
    data = find_voc(root)
    assert data is not None
    return data


def read_one(tmp_path: Path, text: str) -> AnnotatedImages:
    write(tmp_path, {"JPEGImages/x.png": "", "Annotations/x.xml": text})
    return opened(tmp_path)["train"]


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ("{}/{}.png", "{}/{}.xml"),
        ("images/{}/{}.png", "annotations/{}/{}.xml"),
        ("{}/images/{}.png", "{}/annotations/{}.xml"),
        ("JPEGImages/{}/{}.png", "Annotations/{}/{}.xml"),
    ],
)
def test_splits_by_folders(tmp_path: Path, image: str, annotation: str) -> None:
    files = {}
    for split, stem in (("train", "a"), ("valid", "a"), ("valid", "b"), ("test", "c")):
        files |= {image.format(split, stem): "", annotation.format(split, stem): xml()}
    data = opened(write(tmp_path, files))
    assert data.names == ("train", "val", "test")
    assert names(data["val"]) == [image.format("valid", stem) for stem in "ab"]
    # Pixel 16 in a count from 1 begins at 15; the box includes pixel 45.
    np.testing.assert_array_equal(data["train"][0].truth.boxes_xyxy, [[15, 10, 45, 30]])
    assert all(data[split].warnings == [] for split in data.names)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"train": "a\nb", "val": "c"}, {"train": "ab", "val": "c"}),
        ({"train": "a\r\n", "val": "b", "test": "c", "trainval": "a\nb"}, {"train": "a", "val": "b", "test": "c"}),
        ({"trainval": "a\nb", "test": "c"}, {"train": "ab", "test": "c"}),
        ({"trainval": "a\nb\nc", "val": "b"}, {"train": "ac", "val": "b"}),
        ({"trainval": "a\nb\nc", "train": "b"}, {"train": "b", "val": "ac"}),
        ({"train": "a  1\nb -1", "val": "c  0"}, {"train": "ab", "val": "c"}),
        ({"train": "JPEGImages/a.png Annotations/a.xml\n./b.png", "val": "c.png"}, {"train": "ab", "val": "c"}),
        ({"train": "a\nb\nc", "cat_train": "a 1", "cat_val": "b 1"}, {"train": "abc"}),
    ],
)
@pytest.mark.parametrize("folder", ["ImageSets/Main", "ImageSets", ".", "VOCdevkit/VOC2012/ImageSets/Main"])
def test_splits_by_lists(tmp_path: Path, folder: str, lists: dict[str, str], expected: dict[Split, str]) -> None:
    files = {f"{folder}/{name}.txt": text for name, text in lists.items()}
    kit = "VOCdevkit/VOC2012/" if "VOCdevkit" in folder else ""
    for stem in "abc":
        files |= {f"{kit}JPEGImages/{stem}.png": "", f"{kit}Annotations/{stem}.xml": xml()}
    data = opened(write(tmp_path, files))
    found = {split: [name.rpartition("/")[2] for name in names(data[split])] for split in data.names}
    assert found == {split: [f"{stem}.png" for stem in stems] for split, stems in expected.items()}


def test_lists_that_name_none_of_the_files_are_not_used(tmp_path: Path) -> None:
    source = opened(write(tmp_path, {"val.txt": "other\n", "a.png": "", "a.xml": xml()}))["train"]
    assert names(source) == ["a.png"]
    assert sum("1 list (val.txt) with none of the annotation files, not used" in line for line in source.warnings) == 1


def test_lists_of_two_development_kits(tmp_path: Path) -> None:
    files = {}
    for kit in ("VOC2007", "VOC2012"):
        files |= {
            f"{kit}/JPEGImages/a.png": "",
            f"{kit}/Annotations/a.xml": xml(),
            f"{kit}/ImageSets/Main/train.txt": "a",
        }
    assert names(opened(write(tmp_path, files))["train"]) == ["VOC2007/JPEGImages/a.png", "VOC2012/JPEGImages/a.png"]


def test_names_with_spaces_in_lists(tmp_path: Path) -> None:
    files = {"train.txt": "a 1\na 2", "a 1.png": "", "a 1.xml": xml(), "a 2.png": "", "a 2.xml": xml()}
    assert names(opened(write(tmp_path, files))["train"]) == ["a 1.png", "a 2.png"]


def test_the_image_is_that_of_the_annotation_s_own_name(tmp_path: Path) -> None:
    files = {
        "Annotations/a.xml": xml(filename="b.png"),
        "Annotations/b.xml": xml(filename="b.png"),
        "Annotations/c.xml": xml(filename="C:\\photos\\other.png"),
        "Annotations/d.xml": xml(filename="gone.jpg"),
        "JPEGImages/a.png": "",
        "JPEGImages/b.png": "",
        "JPEGImages/other.png": "",
        "JPEGImages/unlabelled.png": "",
    }
    source = opened(write(tmp_path, files))["train"]
    assert names(source) == [f"JPEGImages/{name}" for name in ("a.png", "b.png", "other.png", "gone.jpg")]
    line = "1 image (JPEGImages/unlabelled.png) without an annotation file, left out"
    assert sum(line in warning for warning in source.warnings) == 1
    with pytest.raises(UnreadableImageError, match=r"gone\.jpg: No such file"):
        source[3]


def test_categories_are_those_of_all_splits(tmp_path: Path) -> None:
    files = {"train/a.png": "", "train/a.xml": xml(an_object(name="dog"))}
    files |= {"test/a.png": "", "test/a.xml": xml(an_object(name=" cat "))}
    data = opened(write(tmp_path, files))
    assert data["train"].categories == data["test"].categories
    assert data["train"].categories.names == ("cat", "dog")
    assert data["train"].truth(0).class_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ("1 1 60 40", [[0, 0, 60, 40]]),  # the whole image
        ("0 0 60 40", [[0, 0, 60, 40]]),  # tools that count from 0
        ("1.5 1.5 9.5 9.25", [[0.5, 0.5, 9.5, 9.25]]),
        ("45 30 16 11", [[15, 10, 45, 30]]),  # the other two corners
        ("7 7 7 9", np.zeros((0, 4))),  # a click
    ],
)
def test_coordinates(tmp_path: Path, box: str, expected: object) -> None:
    source = read_one(tmp_path, xml(an_object(box)))
    np.testing.assert_array_equal(source.truth(0).boxes_xyxy, expected)
    num_warnings = {"45 30 16 11": "1 boxes have xmin above xmax", "7 7 7 9": "1 of 1 boxes are empty"}
    assert len(source.warnings) == (box in num_warnings)
    assert num_warnings.get(box, "") in " ".join(source.warnings)


def test_difficult_objects_are_crowds(tmp_path: Path) -> None:
    content = an_object(more="<difficult>1</difficult>") + an_object(more="<difficult>0</difficult>")
    source = read_one(tmp_path, xml(content))
    crowd = source.truth(0).is_crowd
    assert crowd is not None
    assert crowd.tolist() == [True, False]
    assert "1 objects are difficult" in source.warnings[0]


def test_parts_of_an_object_are_no_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    source = read_one(tmp_path, xml(an_object(more=part)))
    assert source.categories.names == ("cat",)
    np.testing.assert_array_equal(source.truth(0).boxes_xyxy, [[15, 10, 45, 30]])


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", "<size/>"])
def test_a_size_that_is_missing_is_that_of_the_file(tmp_path: Path, size: str) -> None:
    source = read_one(tmp_path, xml(size=size))
    assert source.truth(0).image_hw == (40, 60)
    assert "1 of 1 images have no size" in source.warnings[0]


def test_a_size_that_disagrees_makes_the_image_unreadable(tmp_path: Path) -> None:
    source = read_one(tmp_path, xml(size=SIZE.replace("60", "61")))
    with pytest.raises(UnreadableImageError, match="its annotations are for 61 x 40"):
        source[0]


@pytest.mark.parametrize("text", [xml(""), xml("", size="")])
def test_images_without_objects(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"b.png": "", "b.xml": xml()})
    write(tmp_path, {"a.png": "", "a.xml": text})
    source = opened(tmp_path)["train"]
    assert [len(source.truth(row)) for row in range(2)] == [0, 1]


BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (xml() + "<", "not valid XML: .*line 1, column"),
        ("<annotation>\n<object>\n</annotation>", "not valid XML: mismatched tag: line 3"),
        ("", "not valid XML"),
        (BOMB + xml(an_object(name="&c;")), "entities, which are refused"),
        ("<annotations/><!-- <annotation> -->", "the root is <annotations>"),
        (xml(an_object().replace("bndbox", "robndbox")), "object 1: expected .* there is no bndbox"),
        (xml(an_object(name="")), "object 1: expected .* there is no name"),
        (xml(an_object("1 2 x 4")), "object 1: <xmax> must be a number of pixels, got 'x'"),
        (xml(an_object("1 2 3 nan")), "object 1: <ymax> must be a number of pixels, got 'nan'"),
        (xml(an_object("1e999 2 3 4")), "object 1: <xmin> must be a number"),
        (xml(an_object() + an_object(more="<difficult>maybe</difficult>")), "object 2: <difficult> must be 0 or 1"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, {"JPEGImages/w.png": "", "Annotations/w.xml": xml()})
    with pytest.raises(ValueError, match=message) as raised:
        read_one(tmp_path, text)
    assert str(tmp_path / "Annotations/x.xml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_entities_in_utf_16_are_refused_too(tmp_path: Path) -> None:
    write(tmp_path, {"JPEGImages/w.png": "", "Annotations/w.xml": xml()})
    (tmp_path / "Annotations/x.xml").write_bytes((BOMB + xml(an_object(name="&c;"))).encode("utf-16"))
    with pytest.raises(ValueError, match="entities, which are refused"):
        opened(tmp_path)["train"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, {"w.png": "", "w.xml": xml(), "x.png": ""})
    (tmp_path / "x.xml").write_bytes(xml(an_object(name="größer")).encode(encoding))
    assert opened(tmp_path)["train"].categories.names == ("cat", "größer")


def test_other_xml_is_not_voc(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": "", "a.xml": "<annotations><image/></annotations>"})
    assert find_voc(tmp_path) is None


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "counts", "num_empty"),
    [("train", {"head": 1799, "helmet": 2075}, 3), ("val", {"head": 470, "helmet": 666}, 0)],
)
def test_real_annotations_have_the_readme_s_counts(
    shared: Path, split: Split, counts: dict[str, int], num_empty: int
) -> None:
    """The boxes without an area are of two heads and a helmet."""
    source = open_detection(shared / "data" / "helmet")[split]
    found = dict(zip(source.categories.names, np.bincount(source.objects.class_ids).tolist(), strict=True))
    empty = {"head": 2, "helmet": 1} if num_empty else {"head": 0, "helmet": 0}
    assert {name: found[name] + empty[name] for name in found} == counts
    assert len(source.warnings) == (num_empty > 0)
    assert not num_empty or "3 of 3874 boxes are empty" in source.warnings[0]


@pytest.mark.data
def test_real_annotations_equal_supervision(shared: Path) -> None:
    supervision = pytest.importorskip("supervision")
    root = shared / "data" / "helmet"
    reference = supervision.DetectionDataset.from_pascal_voc(str(root / "JPEGImages"), str(root / "Annotations"))
    data = open_detection(root)
    num_compared = 0
    for split in data.names:
        source = data[split]
        for row in range(len(source)):
            truth, expected = source.truth(row), reference.annotations[source.id(row)]
            # Supervision keeps a box whose ends are equal as one pixel.
            has_area = (expected.xyxy[:, 2:] - expected.xyxy[:, :2] > 1).all(1)
            np.testing.assert_array_equal(truth.boxes_xyxy, expected.xyxy[has_area])
            expected_names = [reference.classes[class_id] for class_id in expected.class_id[has_area]]
            assert [source.categories.names[class_id] for class_id in truth.class_ids] == expected_names
            num_compared += len(truth)
    assert num_compared == 3871 + 1136
