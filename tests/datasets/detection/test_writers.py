"""Written data sets against independent readers: pycocotools, torchvision, supervision, globox, webdataset, Pillow."""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pycocotools.coco import COCO

from datasets.detection.annotated import AnnotatedImages, Categories, Objects
from datasets.images.read import write_image
from datasets.stores import ImageFiles
from datasets.writers.output import flat_names, new_output
from datasets.writers.write import BOX_WRITERS, write_data

HEIGHT, WIDTH = 40, 60
CATEGORIES = Categories((1, 3, 90), ("person", "car", "hair drier"))  # COCO's ids have gaps


def make_images(root: Path, names: list[str]) -> ImageFiles:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8))
    return ImageFiles(root, names)


def make_source(
    root: Path, names: list[str], rng: np.random.Generator, num_objects: int = 12, **changes: Any
) -> AnnotatedImages:
    """Random boxes, those of the last image excepted, which has none."""
    starts = rng.uniform(0, (WIDTH - 8, HEIGHT - 8), (num_objects, 2))
    boxes = np.concatenate([starts, starts + rng.uniform(0.1, 8, (num_objects, 2))], 1)
    values = {
        "image_rows": rng.integers(0, len(names) - 1, num_objects),
        "class_ids": rng.integers(0, 3, num_objects),
        "boxes_xyxy": boxes,
        "is_crowd": np.zeros(num_objects, np.bool_),
        "areas_px": np.full(num_objects, np.nan),
    }
    sizes_hw = np.tile([HEIGHT, WIDTH], (len(names), 1))
    return AnnotatedImages(make_images(root, names), sizes_hw, CATEGORIES, Objects(**(values | changes)))


@pytest.fixture
def source(tmp_path: Path, rng: np.random.Generator) -> AnnotatedImages:
    names = ["train/b.jpg", "train/a.jpg", "train/c.png", "train/d.jpeg", "train/empty.jpg"]
    crowds = np.arange(12) == 4
    areas_px = np.where(np.arange(12) == 7, 3.25, np.nan)
    return make_source(tmp_path / "data", names, rng, is_crowd=crowds, areas_px=areas_px)


def write(source: AnnotatedImages, out: Path, format: str, **changes: Any) -> list[str]:
    with new_output(out, source.images.root) as folder:
        _, notes = write_data(folder, {"train": source}, format, **({"copies": False} | changes))
    return notes


def truth_by_stem(source: AnnotatedImages) -> dict[str, Any]:
    return {Path(source.id(row)).stem: source.truth(row) for row in range(len(source))}


def test_coco_as_pycocotools_reads_it(source: AnnotatedImages, tmp_path: Path) -> None:
    assert write(source, tmp_path / "out", "coco") == []
    reference = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    names = {category["id"]: category["name"] for category in reference.loadCats(reference.getCatIds())}
    assert names == dict(zip(CATEGORIES.ids, CATEGORIES.names, strict=True))
    assert [image["file_name"] for image in reference.dataset["images"]] == [
        Path(source.id(row)).name for row in range(len(source))
    ]
    for row, image_id in enumerate(reference.getImgIds()):
        image = reference.loadImgs([image_id])[0]
        assert (image["height"], image["width"]) == (HEIGHT, WIDTH)
        assert (tmp_path / "out/train" / image["file_name"]).read_bytes() == Path(source.id(row)).read_bytes()
        annotations = reference.loadAnns(reference.getAnnIds(imgIds=[image_id]))
        truth = source.truth(row)
        boxes = np.array([annotation["bbox"] for annotation in annotations]).reshape(-1, 4)
        np.testing.assert_allclose(boxes[:, :2], truth.boxes_xyxy[:, :2], atol=2e-4)
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], truth.boxes_xyxy[:, 2:], atol=2e-4)
        assert [a["category_id"] for a in annotations] == [CATEGORIES.ids[class_id] for class_id in truth.class_ids]
        np.testing.assert_allclose([a["area"] for a in annotations], truth.areas_px, atol=1e-3)
        np.testing.assert_array_equal([a["iscrowd"] for a in annotations], truth.is_crowd)


def test_coco_keeps_the_image_ids_that_are_in_official_names(tmp_path: Path, rng: np.random.Generator) -> None:
    source = make_source(tmp_path / "data", ["000000000139.jpg", "000000000017.jpg"], rng)
    write(source, tmp_path / "out", "coco")
    images = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["images"]
    assert [image["id"] for image in images] == [139, 17]


def test_yolo_as_its_definition_has_it(source: AnnotatedImages, tmp_path: Path) -> None:
    notes = write(source, tmp_path / "out", "yolo")
    assert "1 crowd boxes are left out" in notes[0]
    assert "1 areas are not those of their boxes" in notes[1]
    settings = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert settings == {"train": "images/train", "nc": 3, "names": list(CATEGORIES.names)}
    for stem, truth in truth_by_stem(source).items():
        text = (tmp_path / f"out/labels/train/{stem}.txt").read_text()
        rows = np.array([line.split() for line in text.splitlines()], float).reshape(-1, 5)
        expected = truth.select(~truth.is_crowd)
        np.testing.assert_array_equal(rows[:, 0], expected.class_ids)
        centres, sizes = rows[:, 1:3] * (WIDTH, HEIGHT), rows[:, 3:] * (WIDTH, HEIGHT)
        corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)
        np.testing.assert_allclose(corners, expected.boxes_xyxy, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "out/images/train").iterdir()) == [
        *("a.jpg", "b.jpg", "c.png", "d.jpeg", "empty.jpg")
    ]


def test_yolo_as_supervision_reads_it(source: AnnotatedImages, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    write(source, tmp_path / "out", "yolo")
    out = tmp_path / "out"
    reference = supervision.DetectionDataset.from_yolo(
        str(out / "images/train"), str(out / "labels/train"), str(out / "data.yaml")
    )
    assert reference.classes == list(CATEGORIES.names)
    expected = truth_by_stem(source)
    assert len(reference) == len(expected)
    for path, _, detections in reference:
        truth = expected[Path(path).stem]
        truth = truth.select(~truth.is_crowd)
        np.testing.assert_allclose(detections.xyxy, truth.boxes_xyxy, atol=1e-3)
        np.testing.assert_array_equal(detections.class_id, truth.class_ids)


def test_voc_as_torchvision_reads_it(source: AnnotatedImages, tmp_path: Path) -> None:
    notes = write(source, tmp_path / "VOCdevkit/VOC2012", "voc")
    assert "boxes are rounded" in notes[0]
    assert "1 crowd boxes are marked difficult" in notes[1]
    assert "1 areas are not those" in notes[2]
    assert "1 images are no JPEG files" in notes[3]
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/c.jpg").symlink_to("c.png")  # torchvision looks for .jpg only
    reference = torchvision.datasets.VOCDetection(tmp_path, year="2012", image_set="train")
    assert len(reference) == len(source)
    for row, (image, target) in enumerate(reference):  # in the source's order
        truth, annotation = source.truth(row), target["annotation"]
        assert image.size == (WIDTH, HEIGHT) == (int(annotation["size"]["width"]), int(annotation["size"]["height"]))
        objects = annotation.get("object", [])
        boxes = [[float(entry["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")] for entry in objects]
        corners = np.array(boxes).reshape(-1, 4) - (1, 1, 0, 0)  # the first pixel is 1, and the last one is inside
        assert (corners[:, 2:] > corners[:, :2]).all()
        assert (corners >= 0).all()
        assert (corners[:, 2:] <= (WIDTH, HEIGHT)).all()
        sides = np.tile(truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2], 2)
        errors = np.abs(corners - truth.boxes_xyxy)
        assert (errors <= np.where(sides >= 3, 0.5, np.where(sides >= 1, 1, 1.5)) + 1e-4).all()
        assert [entry["name"] for entry in objects] == [CATEGORIES.names[class_id] for class_id in truth.class_ids]
        np.testing.assert_array_equal([int(entry["difficult"]) for entry in objects], truth.is_crowd)


def test_voc_as_globox_reads_it(source: AnnotatedImages, tmp_path: Path) -> None:
    globox = pytest.importorskip("globox")
    write(source, tmp_path / "out", "voc")
    reference = globox.AnnotationSet.from_pascal_voc(tmp_path / "out/Annotations")
    assert len(reference) == len(source)
    for stem, truth in truth_by_stem(source).items():
        annotation = next(a for a in reference if Path(a.image_id).stem == stem)
        boxes = [(box.xmin - 1, box.ymin - 1, box.xmax, box.ymax) for box in annotation.boxes]
        assert (np.abs(np.array(boxes).reshape(-1, 4) - truth.boxes_xyxy) <= 1.5).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset closes no files
def test_detection_shards_as_webdataset_and_tarfile_read_them(source: AnnotatedImages, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    assert write(source, tmp_path / "out", "webdataset") == []
    shard = tmp_path / "out/train-000000.tar"
    with tarfile.open(shard) as archive:
        names = archive.getnames()
    assert [Path(name).stem for name in names[::2]] == [Path(name).stem for name in names[1::2]]
    expected = truth_by_stem(source)
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert sorted(sample["__key__"] for sample in samples) == sorted(expected)
    for sample in samples:
        record, truth = json.loads(sample["json"]), expected[sample["__key__"]]
        boxes = np.array([a["bbox"] for a in record["annotations"]]).reshape(-1, 4)
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], truth.boxes_xyxy[:, 2:], atol=2e-4)
        assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
        row = next(row for row in range(len(source)) if Path(source.id(row)).stem == sample["__key__"])
        image = sample.get("jpg") or sample["png"]
        assert image == Path(source.id(row)).read_bytes()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_yolo_boxes_are_in_the_image_as_it_is_shown(orientation: int, tmp_path: Path) -> None:
    """Annotations in the pixels as stored, of a photo with EXIF's orientation; YOLO's fractions have no such frame."""
    x0, y0, x1, y1 = 8, 4, 24, 12
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "data").mkdir()
    Image.fromarray(pixels).save(tmp_path / "data/a.png", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "data/a.png")))
    is_transposed = shown.shape[:2] != (HEIGHT, WIDTH)
    if not is_transposed:  # then the frame of the annotations is that of the image as it is shown
        (y0, y1), (x0, x1) = extent(shown.any((1, 2))), extent(shown.any((0, 2)))
    objects = Objects(
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        np.array([[x0, y0, x1, y1]], float),
        np.zeros(1, np.bool_),
        np.full(1, np.nan),
    )
    images = ImageFiles(tmp_path / "data", ["a.png"])
    source = AnnotatedImages(images, np.array([[HEIGHT, WIDTH]]), CATEGORIES, objects)
    write(source, tmp_path / "out", "yolo")
    line = (tmp_path / "out/labels/train/a.txt").read_text().split()
    x, y, width, height = np.array(line[1:], float) * np.tile(shown.shape[1::-1], 2)
    np.testing.assert_allclose((y - height / 2, y + height / 2), extent(shown.any((1, 2))), atol=1e-4)
    np.testing.assert_allclose((x - width / 2, x + width / 2), extent(shown.any((0, 2))), atol=1e-4)


def extent(is_painted: NDArray[np.bool_]) -> tuple[int, int]:
    rows = np.flatnonzero(is_painted)
    return int(rows[0]), int(rows[-1]) + 1


def test_images_are_links_unless_they_shall_be_copies(source: AnnotatedImages, tmp_path: Path) -> None:
    first = Path(source.id(0))
    first.rename(tmp_path / "elsewhere.jpg")
    first.symlink_to(tmp_path / "elsewhere.jpg")
    write(source, tmp_path / "linked", "coco")
    write(source, tmp_path / "copied", "coco", copies=True)
    linked, copied = tmp_path / "linked/train/b.jpg", tmp_path / "copied/train/b.jpg"
    assert linked.samefile(tmp_path / "elsewhere.jpg")
    assert not linked.is_symlink()
    assert not copied.samefile(linked)
    assert copied.read_bytes() == linked.read_bytes()


def test_images_are_copied_where_links_cannot_be(
    source: AnnotatedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    write(source, tmp_path / "out", "coco")
    assert (tmp_path / "out/train/b.jpg").read_bytes() == Path(source.id(0)).read_bytes()
    assert not (tmp_path / "out/train/b.jpg").samefile(source.id(0))


@pytest.mark.parametrize("format", BOX_WRITERS)
def test_images_that_cannot_be_read_are_left_out(source: AnnotatedImages, format: str, tmp_path: Path) -> None:
    Path(source.id(0)).unlink()
    Path(source.id(1)).write_bytes(b"not an image")
    write_image(Path(source.id(2)), np.zeros((10, 10, 3), np.uint8))
    notes = write(source, tmp_path / "out", format)
    assert notes[0].startswith("3 of 5 images for train are left out; the first, ")
    assert "b.jpg: No such file or directory" in notes[0]
    written = [path.stem for path in (tmp_path / "out").rglob("*") if path.suffix in (".jpg", ".jpeg", ".png")]
    if format == "webdataset":
        with tarfile.open(tmp_path / "out/train-000000.tar") as archive:
            written = [Path(name).stem for name in archive.getnames()[::2]]
    assert sorted(written) == ["d", "empty"]


def test_no_image_that_can_be_read(source: AnnotatedImages, tmp_path: Path) -> None:
    for row in range(len(source)):
        Path(source.id(row)).unlink()
    with pytest.raises(ValueError, match=r"none of the 5 images for train can be read; the first, .*b\.jpg"):
        write(source, tmp_path / "out", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a fault")])
def test_nothing_is_left_of_what_is_not_whole(error: BaseException, tmp_path: Path) -> None:
    def fail() -> None:
        with new_output(tmp_path / "a/out", tmp_path / "data") as path:
            (path / "file").write_text("half")
            raise error

    with pytest.raises((ValueError, KeyboardInterrupt)) as raised:
        fail()
    assert not list((tmp_path / "a").iterdir())
    if isinstance(error, OSError):
        assert str(raised.value) == f"--out {tmp_path}/a/out: No space left on device; nothing is left there"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for out in ("full", "full/file"):
        with pytest.raises(ValueError, match="nothing is overwritten"), new_output(tmp_path / out, tmp_path / "data"):
            raise AssertionError
    with pytest.raises(ValueError, match="is inside the data"), new_output(tmp_path / "data/x", tmp_path / "data"):
        raise AssertionError
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "file", "full"]


def test_flat_names_are_distinct_and_safe(rng: np.random.Generator) -> None:
    """Random names of few letters, so that many collide: distinct without suffix and case, and legible."""
    letters = ["a", "A", "b", "_", ".", "-2", "é", "e\u0301", "\n", "\udcff", "\\", " "]
    for _ in range(300):
        names = []
        for _ in range(int(rng.integers(1, 12))):
            parts = [
                "".join(rng.choice(letters, rng.integers(1, 4))).strip(".") or "x" for _ in range(rng.integers(1, 4))
            ]
            names.append("/".join(parts) + str(rng.choice([".jpg", ".png", ".JPG"])))
        flat = flat_names(names)
        assert len({Path(name).stem.casefold() for name in flat}) == len(names)
        assert all(name.isprintable() and "/" not in name and "\\" not in name for name in flat)
        assert [Path(name).suffix for name in flat] == [Path(name).suffix for name in names]


def test_flat_names_keep_what_is_distinct_and_safe() -> None:
    assert flat_names(["a/x.jpg", "b/Größe 1.png", "b/y.rf.0.jpg"]) == ["x.jpg", "Größe 1.png", "y.rf.0.jpg"]


def test_names_of_two_folders(tmp_path: Path, rng: np.random.Generator) -> None:
    source = make_source(tmp_path / "data", ["left/1.jpg", "right/1.jpg", "right/2.jpg"], rng)
    notes = write(source, tmp_path / "out", "yolo")
    assert "2 files are renamed" in notes[0]
    assert "'left/1.jpg' is 'left_1.jpg'" in notes[0]
    assert sorted(path.name for path in (tmp_path / "out/labels/train").iterdir()) == [
        "2.txt",
        "left_1.txt",
        "right_1.txt",
    ]


def test_a_class_that_only_one_split_has(tmp_path: Path, rng: np.random.Generator) -> None:
    source = make_source(tmp_path / "data", ["a.jpg", "b.jpg"], rng, class_ids=np.zeros(12, np.int64))
    other = AnnotatedImages(
        source.images, source.sizes_hw, Categories((1, 2), ("person", "boat")), make_objects_of_class(source, 1)
    )
    with new_output(tmp_path / "out", tmp_path / "data") as folder:
        write_data(folder, {"train": source, "val": other}, "coco", copies=False)
    for split, category_id in (("train", 1), ("val", 2)):
        content = json.loads((tmp_path / f"out/annotations/instances_{split}.json").read_text())
        assert {c["id"]: c["name"] for c in content["categories"]} == {
            1: "person",
            2: "boat",
            3: "car",
            90: "hair drier",
        }
        assert {annotation["category_id"] for annotation in content["annotations"]} == {category_id}


def make_objects_of_class(source: AnnotatedImages, class_id: int) -> Objects:
    values = vars(source.objects) | {"class_ids": np.full(len(source.objects), class_id)}
    return Objects(**values)
