"""Readers of masks: every layout gives the same class ids, and what is wrong is said in a line."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from numpy.typing import NDArray

from datasets.images import sizes
from datasets.images.read import UnreadableImageError, write_image
from datasets.look.look import look
from datasets.segmentation.files import VOC_CLASSES
from datasets.segmentation.masks import palette, read_mask, write_mask
from datasets.segmentation.read import open_segmentation
from datasets.splits import Holdout
from datasets.types import VOID

IMAGE = np.full((6, 8, 3), 90, np.uint8)
IDS = np.array([[0, 0, 1, 1, 2, 2, 2, VOID]] * 6, np.uint8)
NAMES = ("sky", "road", "car")


def make_folder(
    root: Path, *, images: str = "images", masks: str = "masks", ending: str = "", stems: tuple[str, ...] = ("a", "b")
) -> Path:
    for folder in (images, masks):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem in stems:
        write_image(root / images / f"{stem}.jpg", IMAGE)
        write_mask(root / masks / f"{stem}{ending}.png", IDS)
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


def lists(root: Path, **lines: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in lines.items():
        (root / f"{name}.txt").write_text(text)


@pytest.mark.parametrize(
    ("folders", "split"),
    [
        ({}, "train"),
        ({"images": "images/val", "masks": "masks/val"}, "val"),
        ({"images": "test/images", "masks": "test/labels"}, "test"),
        ({"images": "valid", "masks": "validannot"}, "val"),
        ({"images": "PNGImages", "masks": "PedMasks", "ending": "_mask"}, "train"),
    ],
)
def test_masks_are_found_by_folder_and_name(folders: Any, split: Any, tmp_path: Path) -> None:
    data = open_segmentation(make_folder(tmp_path, **folders))
    assert data.names == (split,)
    source = data[split]
    assert (len(source), source.class_names, source.warnings) == (2, NAMES, [])
    example = source[1]
    np.testing.assert_array_equal(example.truth.class_ids, IDS)
    assert example.image.shape == IMAGE.shape
    assert Path(example.id).stem == "b"


def test_lists_divide_and_name_masks(tmp_path: Path) -> None:
    make_folder(tmp_path, images="x", masks="xannot", stems=("a", "b", "c", "d"))
    lists(tmp_path, train="/data/x/a.jpg /data/xannot/a.png\nb\n", val="x/c.jpg xannot/d.png\nx/z.jpg xannot/z.png\n")
    data = open_segmentation(tmp_path)
    assert [len(data[split]) for split in data.names] == [2, 1]
    masks: Any = data["val"].masks
    assert Path(masks.id(0)).name == "d.png"
    assert data["train"].warnings == [
        f"{tmp_path / 'val.txt'}: 1 image (x/z.jpg xannot/z.png) without a mask, left out"
    ]


def test_lists_name_images_with_spaces_and_tell_folders_apart(tmp_path: Path) -> None:
    for part in ("x", "y"):
        make_folder(tmp_path, images=f"images/{part}", masks=f"masks/{part}", stems=("a", "b c"))
    lists(tmp_path, train="x/b c.jpg\ny/a\n", val="/data/images/y/b c.jpg\nimages/x/a.jpg masks/y/a.png\n")
    data = open_segmentation(tmp_path)
    names = [[data[split].images.name(row) for row in range(len(data[split]))] for split in data.names]
    assert names == [["images/x/b c.jpg", "images/y/a.jpg"], ["images/y/b c.jpg", "images/x/a.jpg"]]
    masks: Any = data["val"].masks
    assert Path(masks.id(1)) == tmp_path / "masks" / "y" / "a.png"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_of_photos_that_exif_turns(orientation: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """Upright, as annotation tools write them; of the stored pixels where only these have the mask's size."""
    make_folder(tmp_path, stems=("stored", "upright"))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    photo = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    photo.save(tmp_path / "images" / "upright.jpg", exif=exif)
    photo.save(tmp_path / "images" / "stored.jpg", exif=exif)
    stored = PIL.Image.fromarray(rng.integers(0, 3, (6, 8), np.uint8))
    stored.getexif()[0x0112] = orientation
    upright = PIL.ImageOps.exif_transpose(stored)
    write_mask(tmp_path / "masks" / "stored.png", np.asarray(stored))
    write_mask(tmp_path / "masks" / "upright.png", np.asarray(upright))
    source = open_segmentation(tmp_path)["train"]
    expected = [stored if orientation <= 4 else upright, upright]  # a mask of 8 x 6 is that of a photo of 8 x 6
    for row, mask in enumerate(expected):
        example = source[row]
        np.testing.assert_array_equal(example.truth.class_ids, np.asarray(mask))
        assert example.image.shape[:2] == example.truth.class_ids.shape


def test_voc(tmp_path: Path) -> None:
    kit = tmp_path / "VOCdevkit" / "VOC2012"
    make_folder(kit, images="JPEGImages", masks="SegmentationClass", stems=("a", "b", "c"))
    (kit / "classes.txt").unlink()
    (kit / "SegmentationObject").mkdir()
    write_mask(kit / "SegmentationObject" / "a.png", IDS)
    write_image(kit / "JPEGImages" / "only_boxes.jpg", IMAGE)
    lists(kit / "ImageSets" / "Main", train="only_boxes\n")
    lists(kit / "ImageSets" / "Segmentation", train="a\nb\n", val="c\n", trainval="a\nb\nc\n")
    PIL.Image.fromarray(palette()[IDS]).save(kit / "SegmentationClass" / "b.png")  # in colours
    data = open_segmentation(tmp_path)
    train = data["train"]
    assert (len(train), len(data["val"]), train.class_names, train.warnings) == (2, 1, VOC_CLASSES, [])
    for row in range(2):
        np.testing.assert_array_equal(train.truth(row).class_ids, IDS)


def test_vocs_palette_is_its_own() -> None:
    """The first colours and void's of the development kit's documentation."""
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [tuple(colour) for colour in palette()[:7].tolist()] == expected
    assert tuple(palette()[[20, VOID]].ravel().tolist()) == (0, 64, 128, 224, 224, 192)


def test_void_may_be_a_class_of_the_list(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\nVoid\ncar\n")
    source = open_segmentation(tmp_path)["train"]
    assert source.class_names == ("sky", "car")
    np.testing.assert_array_equal(source.truth(0).class_ids[0], [0, 0, VOID, VOID, 1, 1, 1, VOID])


def test_instances_are_one_class(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("background\nperson\n")
    source = open_segmentation(tmp_path, format="instances")["train"]
    assert source.class_names == ("background", "person")
    np.testing.assert_array_equal(source.truth(0).class_ids, IDS > 0)


def test_validation_part_is_held_out(tmp_path: Path) -> None:
    make_folder(tmp_path, stems=tuple("abcdefgh"))
    data = open_segmentation(tmp_path, holdout=Holdout(0.0, 0.4))
    names = [{Path(data[split].id(row)).stem for row in range(len(data[split]))} for split in data.names]
    assert names[0] | names[1] == set("abcdefgh")
    assert not names[0] & names[1]
    for split in data.names:
        np.testing.assert_array_equal(data[split][0].truth.class_ids, IDS)


def coco(root: Path, annotations: list[dict[str, Any]]) -> Path:
    (root / "images").mkdir()
    write_image(root / "images" / "a.jpg", IMAGE)
    write_image(root / "images" / "b.jpg", IMAGE)
    images = [{"id": number, "file_name": f"{name}.jpg", "height": 6, "width": 8} for number, name in enumerate("ab")]
    boxes = [{"id": number, "bbox": [0, 0, 8, 6], "iscrowd": 0} | one for number, one in enumerate(annotations)]
    categories = [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}]
    (root / "instances.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return root


def test_coco_outlines_are_painted_small_over_large_over_crowds(tmp_path: Path) -> None:
    large = {"image_id": 0, "category_id": 3, "area": 24, "segmentation": [[2, 0, 6, 0, 6, 6, 2, 6]]}
    small = {
        "image_id": 0,
        "category_id": 7,
        "area": 4,
        "segmentation": [[3, 1, 5, 1, 5, 3, 3, 3], [7, 0, 8, 0, 8, 1, 7, 1]],
    }
    runs = {"size": [6, 8], "counts": [0, 18, 30]}  # down the first three columns
    crowd = {"image_id": 0, "category_id": 3, "area": 99, "iscrowd": 1, "segmentation": runs}
    alone = {"image_id": 1, "category_id": 7, "segmentation": []}
    source = open_segmentation(coco(tmp_path, [small, crowd, large, alone]))["train"]
    expected = np.zeros((6, 8), np.uint8)
    expected[:, :3] = VOID
    expected[:, 2:6] = 1
    expected[1:3, 3:5] = 2
    expected[0, 7] = 2
    assert source.class_names == ("background", "dog", "cat")
    np.testing.assert_array_equal(source.truth(0).class_ids, expected)
    np.testing.assert_array_equal(source.select(np.array([1])).truth(0).class_ids, 0)
    assert source.warnings == [f"{tmp_path / 'instances.json'}: 1 annotation without an outline, left out"]


# --- what is wrong


def save(root: Path, values: NDArray[Any], suffix: str = ".png") -> None:
    for stem in "ab":
        (root / "masks" / f"{stem}.png").unlink()
        PIL.Image.fromarray(values).save(root / "masks" / f"{stem}{suffix}")


RED = np.full((6, 8, 3), (250, 10, 10), np.uint8)


@pytest.mark.parametrize(
    ("break_it", "what"),
    [
        (
            lambda root: save(root, IDS[:, :5]),
            r"a\.png: a mask of 5 x 6 pixels, but .*a\.jpg has 8 x 6; expected the same",
        ),
        (lambda root: save(root, RED), r"a\.png: a mask of colours, such as \(250, 10, 10\); expected class ids"),
        (lambda root: save(root, IDS + 3), r"a\.png: its value 5 is no class id; expected ids of 3 classes, or 255"),
        (lambda root: save(root, IDS.astype(np.uint16)), r"a\.png: a mask of 16 bits or more; expected .* of 8 bits"),
        (lambda root: save(root, np.full_like(IDS, VOID)), r"a\.png: all of its pixels are void; expected a class"),
        (lambda root: save(root, IDS, ".jpg"), r"a\.jpg: a mask in JPEG, which changes the ids; expected PNG"),
        (
            lambda root: [(root / f"masks/{s}.png").write_bytes(b"x") for s in "ab"],
            r"a\.png: no image that can be read",
        ),
        (
            lambda root: (root / "classes.txt").unlink(),
            r"there are masks, but no classes\.txt .*--data\.format instances",
        ),
        (
            lambda root: (root / "classes.txt").write_text("a\na\nb"),
            r"classes\.txt: line 2: 'a' again; expected a class",
        ),
        (
            lambda root: [(root / f"masks/{s}.png").rename(root / f"masks/{s}x.png") for s in "ab"],
            "no image has a mask",
        ),
    ],
)
def test_faults_of_all_masks_are_found_when_a_split_is_opened(
    break_it: Callable[[Path], object], what: str, tmp_path: Path
) -> None:
    break_it(make_folder(tmp_path))
    with pytest.raises(ValueError, match=what) as error:
        _ = open_segmentation(tmp_path)["train"]
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_colour_that_is_not_vocs(tmp_path: Path) -> None:
    make_folder(tmp_path, masks="SegmentationClass")
    for stem in "ab":
        PIL.Image.fromarray(RED).save(tmp_path / "SegmentationClass" / f"{stem}.png")
    with pytest.raises(ValueError, match=r"a\.png: its colour \(250, 10, 10\) is not in Pascal VOC's palette"):
        _ = open_segmentation(tmp_path)["train"]


def test_masks_that_pillow_would_cut_or_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours of 16 bits would become 0. Masks may be as large as images, which is larger than Pillow's own limit."""
    masks: Any = open_segmentation(make_folder(tmp_path))["train"].masks
    cv2.imwrite(str(tmp_path / "deep.png"), np.repeat(IDS[..., None], 3, 2).astype(np.uint16))
    with pytest.raises(UnreadableImageError, match=r"deep\.png: a mask of 16 bits or more; expected .* of 8 bits"):
        read_mask(tmp_path / "deep.png", masks.coding)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(masks.read(0), IDS)
    monkeypatch.setattr(sizes, "MAX_PIXELS", 10)
    with pytest.raises(
        UnreadableImageError, match=r"a\.png: \d+ x \d+ pixels; up to 0 million are read: cut it in parts"
    ):
        masks.read(0)


def test_one_faulty_mask_of_many_is_an_unreadable_image(tmp_path: Path) -> None:
    make_folder(tmp_path, stems=("a", "b", "c", "d"))
    write_mask(tmp_path / "masks" / "b.png", IDS[:4])
    source = open_segmentation(tmp_path)["train"]
    _ = source[0]
    with pytest.raises(UnreadableImageError, match=r"b\.png: a mask of 8 x 4 pixels"):
        _ = source[1]


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_copies_that_cannot_be_read_are_findings(folder: str, tmp_path: Path) -> None:
    """Two broken downloads are equal byte for byte, and so may be the images of a broken mask."""
    stems = tuple(map(str, range(300)))
    make_folder(tmp_path, stems=stems)
    photo = (tmp_path / "images" / "0.jpg").read_bytes()
    for stem in stems[:2]:
        (tmp_path / "images" / f"{stem}.jpg").write_bytes(photo)
        next((tmp_path / folder).glob(f"{stem}.*")).write_bytes(b"<html>")
    source = open_segmentation(tmp_path)["train"]
    findings = look({"train": source}, input_size=32, max_unreadable_fraction=0.01)
    assert any(text.startswith("2 (1%) of 300") or "2 of 300" in text for _, text in findings), findings
    assert not any(severity == "error" for severity, _ in findings)


def test_images_and_masks_without_their_partner_are_counted(tmp_path: Path) -> None:
    make_folder(tmp_path)
    write_image(tmp_path / "images" / "new.jpg", IMAGE)
    write_mask(tmp_path / "masks" / "old.png", IDS)
    source = open_segmentation(tmp_path)["train"]
    assert len(source) == 2
    assert source.warnings == [
        f"{tmp_path}: 1 image (images/new.jpg) without a mask, left out",
        f"{tmp_path}: 1 mask (masks/old.png) without an image, left out",
    ]


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        ({"segmentation": []}, "none of its annotations has an outline"),
        ({"segmentation": [[1, 2, 3]]}, r"annotation 0: its 'segmentation' is \[1, 2, 3\]; expected polygons"),
        ({"segmentation": [[0, 0, math.nan, 3, 5, 5]]}, r"annotation 0: its 'segmentation' is \[0, 0, nan.*in pixels"),
        ({"segmentation": [[0, 0, 1e9, 3, 5, 5]]}, r"annotation 0: its 'segmentation' is \[0, 0, 1000000000.0"),
    ],
)
def test_coco_without_outlines(annotation: dict[str, Any], what: str, tmp_path: Path) -> None:
    coco(tmp_path, [{"image_id": 0, "category_id": 3} | annotation])
    with pytest.raises(ValueError, match=what):
        _ = open_segmentation(tmp_path)["train"]


@pytest.mark.parametrize(
    ("runs", "what"),
    [
        ({"size": [5, 8], "counts": [0, 40]}, "run lengths of 8 x 5 pixels; expected those of its image, 8 x 6"),
        ({"size": [6, 8], "counts": [0, 20]}, "damaged run lengths"),
        ({"size": [6, 8], "counts": "zz?"}, "damaged run lengths"),
        ({"size": "x", "counts": None}, "damaged run lengths"),
    ],
)
def test_damaged_run_lengths_are_an_unreadable_image(runs: dict[str, Any], what: str, tmp_path: Path) -> None:
    polygon = {"image_id": 1, "category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6]]}
    source = open_segmentation(coco(tmp_path, [polygon, {"image_id": 0, "category_id": 3, "segmentation": runs}]))
    with pytest.raises(UnreadableImageError, match=rf"instances\.json: annotation at position 1: {what}"):
        source["train"].truth(0)


# --- real data


@pytest.mark.data
def test_camvid_and_pennfudan(shared: Path) -> None:
    """The numbers of images, and the fractions of pixels, of the data's own description."""
    camvid = open_segmentation(shared / "data" / "camvid")
    assert [len(camvid[split]) for split in camvid.names] == [367, 101]
    val = camvid["val"]
    counts = sum(np.bincount(val.truth(row).class_ids.ravel(), minlength=256) for row in range(len(val)))
    described = [9.18, 25.96, 0.56, 28.95, 8.72, 16.33, 0.89, 3.08, 1.74, 0.65, 2.22]
    np.testing.assert_allclose(100 * counts[:11] / counts.sum(), described, atol=0.006)
    assert 100 * counts[VOID] / counts.sum() == pytest.approx(1.70, abs=0.006)

    pennfudan = open_segmentation(shared / "data" / "pennfudan", format="instances")
    assert [len(pennfudan[split]) for split in pennfudan.names] == [130, 40]
    stored = np.asarray(PIL.Image.open(pennfudan["val"].masks.id(3)))
    np.testing.assert_array_equal(pennfudan["val"].truth(3).class_ids, stored > 0)


def test_written_masks_are_read_again(tmp_path: Path, rng: np.random.Generator) -> None:
    source = open_segmentation(make_folder(tmp_path))["train"]
    ids = rng.integers(0, 3, (20, 30), np.uint8)
    write_mask(tmp_path / "mask.png", ids)
    masks: Any = source.masks
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", masks.coding), ids)
    with PIL.Image.open(tmp_path / "mask.png") as picture:  # as others see it
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette()[ids])
