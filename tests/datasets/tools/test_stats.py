"""`stats` counts what hand arithmetic counts."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from datasets.tools.cli import main
from tests.datasets.look.builders import HEIGHT, WIDTH, write_images


def test_boxes_are_counted_by_class_split_and_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Boxes of 10 x 10, 40 x 50 and 96 x 96 px are small, medium and large."""
    boxes = {"train": [(0, [0, 0, 10, 10]), (0, [3, 3, 40, 50]), (1, [0, 0, 96, 96])], "val": [(1, [5, 5, 10, 20])]}
    for split, objects in boxes.items():
        annotations = [
            {"id": number, "image_id": 1, "category_id": 7 + class_id, "bbox": box}
            for number, (class_id, box) in enumerate(objects)
        ]
        images = [{"id": i, "file_name": f"{split}{i}.png", "width": WIDTH, "height": 100} for i in (1, 2)]
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    assert main(["stats", str(tmp_path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["splits"] == [
        {"split": "train", "images": 2, "boxes": 3, "classes": 2, "without boxes": 1},
        {"split": "val", "images": 2, "boxes": 1, "classes": 1, "without boxes": 1},
    ]
    assert record["classes"] == [{"name": "cat", "train": 2, "val": 0}, {"name": "dog", "train": 1, "val": 1}]
    assert record["box_sizes"] == [
        {"split": "train", "small": 1, "medium": 1, "large": 1},
        {"split": "val", "small": 1, "medium": 0, "large": 0},
    ]
    of = {row.pop("measure"): row for row in record["measures"]}
    assert of["image width, px"] == {"minimum": WIDTH, "median": WIDTH, "maximum": WIDTH}
    assert of["box width, px"] == {"minimum": 10, "median": 25, "maximum": 96}
    assert of["box width / height"] == {"minimum": 0.5, "median": 0.9, "maximum": 1}


def test_images_are_counted_by_class_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path, ["train/a/0.png", "train/a/1.png", "train/b/0.png", "val/b/0.png"])
    assert main(["stats", str(tmp_path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["classes"] == [{"name": "a", "train": 2, "val": 0}, {"name": "b", "train": 1, "val": 1}]
    assert list(record["measures"][1].values()) == ["image height, px", HEIGHT, HEIGHT, HEIGHT]
    assert main(["stats", str(tmp_path)]) == 0
    assert "image height, px" in capsys.readouterr().out


def test_images_are_counted_by_the_classes_of_their_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Void is no class; a mask that cannot be read has none."""
    masks = {"train": ([[0, 0], [1, 255]], [[0, 0], [0, 0]]), "val": ([[2, 2], [1, 1]], [[7, 7], [7, 7]])}
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\ndog\n")
    for split, of_split in masks.items():
        for number, ids in enumerate(of_split):
            for folder, values in (("images", np.zeros((2, 2, 3))), ("masks", np.array(ids))):
                path = tmp_path / folder / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(values.astype(np.uint8)).save(path)
    assert main(["stats", str(tmp_path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["task"] == "segmentation"
    assert record["splits"] == [
        {"split": "train", "images": 2, "classes": 2},
        {"split": "val", "images": 2, "classes": 2},
    ]
    assert [list(row.values()) for row in record["classes"]] == [
        ["sky", 2, 0],
        ["road", 1, 1],
        ["car", 0, 1],
        ["dog", 0, 0],
    ]
    assert main(["check", str(tmp_path), "--out", str(tmp_path.with_name("out"))]) == 1
    printed = capsys.readouterr().out
    assert "warning: 2 of 4 classes have no images in train: car, dog; val has images of 1 of them" in printed
    assert (
        f"error: 1 of 2 masks of val cannot be used; the first: {tmp_path}/masks/val/1.png: its value 7 is" in printed
    )
    assert main(["split", str(tmp_path), "--test_fraction", "0.5", "--out", str(tmp_path.with_name("new"))]) == 1
    assert "error: masks are written by `convert --to webdataset` alone" in capsys.readouterr().err
