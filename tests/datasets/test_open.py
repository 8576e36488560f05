"""Folders of all kinds are recognised, and folders that are nothing are refused with what was found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.look.look import look
from datasets.open import KINDS, Kind, open_folder
from tests.datasets.look.builders import write_images

SHARED: dict[str, Kind] = {
    "bccd": "detection",
    "coco128": "detection",
    "helmet": "detection",
    "yolo_fruit": "detection",
    "camvid": "segmentation",
    "fairface": "attributes",
    "stanford_dogs": "classification",
    "imagenet_sample": "classification",
    "faces/identities": "classification",
    "faces/lfw": "embedding",
    "lfw": "embedding",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_look_finds_no_fault_in_the_generated_samples(kind: Kind, generated_roots: Callable[[str], Path]) -> None:
    root = generated_roots(kind)
    found, data = open_folder(root, kind=kind)
    assert found == kind
    findings = look({split: data[split] for split in data.names}, input_size=96)
    few = (
        "have no box in val",
        "have no images in val",
        "the same in all images",
    )  # true of the few images of the tests
    assert [text for _, text in findings if not any(what in text for what in few)] == []
    if kind != "embedding":  # looks like classes
        assert open_folder(root)[0] == kind


@pytest.mark.data
@pytest.mark.parametrize(("name", "kind"), SHARED.items())
def test_real_data_are_recognised(shared: Path, name: str, kind: Kind) -> None:
    assert open_folder(shared / "data" / name)[0] == kind


@pytest.mark.data
def test_masks_without_names_of_classes_are_explained(shared: Path) -> None:
    root = shared / "data" / "pennfudan"
    with pytest.raises(ValueError, match=r"1 folder \(PedMasks\) of masks, but no classes\.txt .*--format instances"):
        open_folder(root)
    assert open_folder(root, kind="segmentation", format="instances")[0] == "segmentation"


def test_folders_of_classes_named_like_masks_are_classes(tmp_path: Path) -> None:
    write_images(tmp_path, [f"{split}/{name}_mask/1.png" for split in ("train", "val") for name in ("with", "without")])
    (tmp_path / "classes.txt").write_text("with_mask\nwithout_mask\n")
    assert open_folder(tmp_path)[0] == "classification"


def test_formats_are_checked(tmp_path: Path) -> None:
    write_images(tmp_path, [f"{name}/{number}.png" for name in "ab" for number in range(3)])
    assert open_folder(tmp_path)[0] == "classification"
    assert open_folder(tmp_path, kind="embedding")[0] == "embedding"
    with pytest.raises(ValueError, match="no format 'xml'; expected one of coco, yolo"):
        open_folder(tmp_path, format="xml")
    with pytest.raises(ValueError, match="classification data have no format 'coco'; expected folder, imagenet"):
        open_folder(tmp_path, kind="classification", format="coco")
    with pytest.raises(ValueError, match="no such folder"):
        open_folder(tmp_path / "none")


def test_a_csv_file_beside_class_folders_does_not_make_them_places(tmp_path: Path) -> None:
    write_images(tmp_path, [f"{name}/{number}.png" for name in "ab" for number in range(3)])
    (tmp_path / "labels.csv").write_text("file,label\na/0.png,a\n")
    assert open_folder(tmp_path)[0] == "classification"
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "labels.csv").write_text("file,latitude,longitude\na/0.png,1,2\na/1.png,3,4\na/2.png,50,60\n")
    assert open_folder(tmp_path)[0] == "geolocation"
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    assert open_folder(tmp_path)[0] == "geolocation"
