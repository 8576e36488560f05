"""One data set in every form that the readers know has the same boxes: the blood cells of ../shared/data/bccd.

The test rearranges COCO's JSON by plain arithmetic, independently of the suite's writers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.detection.read import open_detection
from datasets.types import Split

pytestmark = pytest.mark.data

NAMES = ["RBC", "WBC", "Platelets"]  # of the category ids 1, 2, 3


class Picture(NamedTuple):
    """An image of the data set: its file, size, and the class name and corners of each object."""

    path: Path
    width: int
    height: int
    objects: list[tuple[str, tuple[float, float, float, float]]]


Pictures = dict[Split, list[Picture]]


@pytest.fixture(scope="module")
def pictures(shared: Path) -> Pictures:
    root = shared / "data" / "bccd"
    return {split: read_coco(root, split) for split in ("train", "val")}  # type: ignore[misc]


def read_coco(root: Path, split: str) -> list[Picture]:
    content = json.loads((root / "annotations" / f"{split}.json").read_text())
    pictures = []
    for image in content["images"]:
        objects = []
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, width, height = annotation["bbox"]
                objects.append((NAMES[annotation["category_id"] - 1], (x, y, x + width, y + height)))
        pictures.append(Picture(root / split / image["file_name"], image["width"], image["height"], objects))
    return pictures


def link(picture: Picture, folder: Path) -> Path:
    """A link to the picture in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / picture.path.name
    path.symlink_to(picture.path)
    return path


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def coco_content(pictures: list[Picture]) -> dict[str, Any]:
    images, annotations = [], []
    for number, picture in enumerate(pictures):
        images.append({"id": number, "file_name": picture.path.name, "width": picture.width, "height": picture.height})
        for name, (x0, y0, x1, y1) in picture.objects:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": NAMES.index(name) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "segmentation": [],
                    "iscrowd": 0,
                }
            )
    categories: list[dict[str, Any]] = [{"id": 1 + k, "name": name} for k, name in enumerate(NAMES)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def coco_of_roboflow(root: Path, pictures: Pictures) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        for picture in pictures[split]:  # type: ignore[index]
            link(picture, root / folder)
        content = coco_content(pictures[split])  # type: ignore[index]
        (root / folder / "_annotations.coco.json").write_text(json.dumps(content))


def flat_coco(root: Path, pictures: Pictures) -> None:
    for picture in pictures["train"]:
        link(picture, root)
    (root / "labels.json").write_text(json.dumps(coco_content(pictures["train"])))


def yolo_labels(path: Path, picture: Picture) -> None:
    lines = []
    for name, (x0, y0, x1, y1) in picture.objects:
        x, y = (x0 + x1) / 2 / picture.width, (y0 + y1) / 2 / picture.height
        width, height = (x1 - x0) / picture.width, (y1 - y0) / picture.height
        lines.append(f"{NAMES.index(name)} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n")
    write_text(path, "".join(lines))


def yolo_of_ultralytics(root: Path, pictures: Pictures) -> None:
    for split, parts in pictures.items():
        for picture in parts:
            link(picture, root / "images" / split)
            yolo_labels(root / "labels" / split / f"{picture.path.stem}.txt", picture)
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    (root / "bccd.yaml").write_text(f"path: ../datasets/bccd\ntrain: images/train\nval: images/val\nnames:\n{names}")


def yolo_of_roboflow(root: Path, pictures: Pictures) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        for picture in pictures[split]:  # type: ignore[index]
            link(picture, root / folder / "images")
            yolo_labels(root / folder / "labels" / f"{picture.path.stem}.txt", picture)
    settings = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
    (root / "data.yaml").write_text(f"{settings}names: {NAMES}\n")


def yolo_without_settings(root: Path, pictures: Pictures) -> None:
    for split, parts in pictures.items():
        for picture in parts:
            path = link(picture, root / split)
            yolo_labels(path.with_suffix(".txt"), picture)
        (root / split / "classes.txt").write_text("\n".join(NAMES))


def voc_text(picture: Picture) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{round(x0) + 1}</xmin>"
        f"<ymin>{round(y0) + 1}</ymin><xmax>{round(x1)}</xmax><ymax>{round(y1)}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in picture.objects
    )
    size = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{picture.path.name}</filename>{size}{objects}</annotation>"


def voc_devkit(root: Path, pictures: Pictures) -> None:
    for split, parts in pictures.items():
        for picture in parts:
            link(picture, root / "JPEGImages")
            write_text(root / "Annotations" / f"{picture.path.stem}.xml", voc_text(picture))
        write_text(root / f"ImageSets/Main/{split}.txt", "".join(f"{picture.path.stem}\n" for picture in parts))
        write_text(root / f"ImageSets/Main/WBC_{split}.txt", "".join(f"{picture.path.stem} -1\n" for picture in parts))


def voc_beside_images(root: Path, pictures: Pictures) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        for picture in pictures[split]:  # type: ignore[index]
            path = link(picture, root / folder)
            path.with_suffix(".xml").write_text(voc_text(picture))


def labelme(root: Path, pictures: Pictures) -> None:
    for split, parts in pictures.items():
        for picture in parts:
            path = link(picture, root / split)
            shapes = [
                {"label": name, "points": [[x1, y0], [x0, y1]], "shape_type": "rectangle", "group_id": None}
                for name, (x0, y0, x1, y1) in picture.objects
            ]
            content = {
                "version": "5.5.0",
                "shapes": shapes,
                "imagePath": picture.path.name,
                "imageData": None,
                "imageHeight": picture.height,
                "imageWidth": picture.width,
            }
            path.with_suffix(".json").write_text(json.dumps(content))


# How it is written, what is said to be found, and by how many pixels corners may differ.
FORMS: list[tuple[Callable[[Path, Pictures], None], str, float]] = [
    (coco_of_roboflow, "COCO annotations", 1e-3),
    (flat_coco, "COCO annotations", 1e-3),
    (yolo_of_ultralytics, "YOLO labels", 1e-3),  # six digits of 480 pixels
    (yolo_of_roboflow, "YOLO labels", 1e-3),
    (yolo_without_settings, "YOLO labels", 1e-3),
    (voc_devkit, "Pascal VOC annotations", 0.501),  # rounded to pixels
    (voc_beside_images, "Pascal VOC annotations", 0.501),
    (labelme, "labelme annotations", 1e-3),
]


@pytest.mark.parametrize(("write", "found", "tolerance_px"), FORMS, ids=[write.__name__ for write, *_ in FORMS])
def test_every_form_has_the_same_boxes(
    tmp_path: Path, pictures: Pictures, write: Callable[[Path, Pictures], None], found: str, tolerance_px: float
) -> None:
    write(tmp_path, pictures)
    data = open_detection(tmp_path)
    assert data.found.startswith(found)
    assert data.names == (("train",) if write is flat_coco else ("train", "val"))
    for split in data.names:
        source = data[split]
        assert sorted(source.categories.names) == sorted(NAMES)
        row_of = {Path(source.id(row)).name: row for row in range(len(source))}
        assert row_of.keys() == {picture.path.name for picture in pictures[split]}
        for picture in pictures[split]:
            truth = source.truth(row_of[picture.path.name])
            names = [source.categories.names[class_id] for class_id in truth.class_ids]
            corners: NDArray[np.float64] = np.array([box for _, box in picture.objects])
            assert names == [name for name, _ in picture.objects]
            np.testing.assert_allclose(truth.boxes_xyxy, corners, atol=tolerance_px)
        image = source[0].image
        assert image.shape[:2] == source.truth(0).image_hw


def test_a_folder_with_two_formats_says_so(tmp_path: Path, pictures: Pictures) -> None:
    yolo_without_settings(tmp_path, pictures)
    assert "not used" not in open_detection(tmp_path).found
    for picture in pictures["train"]:
        write_text(tmp_path / f"train/{picture.path.stem}.xml", voc_text(picture))
    data = open_detection(tmp_path)
    assert data.found.startswith("YOLO labels")
    assert data.found.endswith("; voc annotations are there too, and not used: data.format chooses")
    assert open_detection(tmp_path, format="voc").found.startswith("Pascal VOC annotations")
