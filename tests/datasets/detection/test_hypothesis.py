"""Whatever is in a folder, a reader gives a ValueError that names the file or the folder, or boxes that make sense.

HYPOTHESIS_PROFILE=thorough tries 2,000 folders for each reader.
"""

import copy
import json
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datasets.detection.annotated import AnnotatedImages
from datasets.detection.read import open_detection
from datasets.images.read import UnreadableImageError
from datasets.splits import Holdout

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

Files = dict[str, bytes]
Draw = Callable[[st.SearchStrategy[Any]], Any]

IMAGE = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
TOKENS = [
    "",
    "0",
    "-1",
    "7",
    "0.5",
    "1e308",
    "-1e308",
    "1e999",
    "nan",
    "-inf",
    "9" * 400,
    "x",
    "None",
    "true",
    "\0",
    "é",
]
VALUES = [
    None,
    True,
    "",
    "1",
    "x",
    "../x.png",
    "/a.png",
    "a\0",
    "\ud83d",
    -1,
    0,
    0.5,
    2**63,
    10**400,
    math.nan,
    -math.inf,
    [],
    {},
]
NAMES = ["a", "b", "train", "val", "valid", "images", "labels", "Annotations", "JPEGImages", "ImageSets", "Main", "é"]
SUFFIXES = ["", ".png", ".jpg", ".txt", ".xml", ".json", ".yaml", ".names"]


def coco_content(names: list[str]) -> dict[str, Any]:
    images = [{"id": k, "file_name": name, "height": 40, "width": 60} for k, name in enumerate(names)]
    annotations = [
        {"id": k, "image_id": k // 2, "category_id": 1 + k % 2, "bbox": [5, 5, 20, 10 + k], "area": 200, "iscrowd": 0}
        for k in range(2 * len(names))
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def coco_files(draw: Draw) -> Files:
    files: Files = {}
    for split, folder in (("train", draw(st.sampled_from(["train", "images/train", "."]))), ("valid", "valid")):
        images = ["x.png", "y.png"]
        files |= {f"{folder}/{name}": IMAGE for name in images}
        content = mutated_json(draw, coco_content(images))
        name = draw(st.sampled_from([f"annotations/{split}.json", f"{folder}/_annotations.coco.json"]))
        files[name] = json_bytes(draw, content)
    return files


def yolo_files(draw: Draw) -> Files:
    image, label = draw(
        st.sampled_from(
            [("{}/images/{}.png", "{}/labels/{}.txt"), ("images/{}/{}.png", "labels/{}/{}.txt"), ("{1}.png", "{1}.txt")]
        )
    )
    files: Files = {}
    lines = ["0 0.5 0.5 0.25 0.5", "1 0.1 0.2 0.1 0.1", "1 0.1 0.1 0.9 0.1 0.5 0.8", ""]
    for split in ("train", "valid"):
        for stem in ("x", "y"):
            files[image.format(split, stem)] = IMAGE
            text = "\n".join(draw(st.lists(st.sampled_from(lines), max_size=4)))
            files[label.format(split, stem)] = mutated_text(draw, text)
    if draw(st.booleans()):
        content = {"path": "../x", "train": "../train/images", "val": ["valid/images"], "nc": 2, "names": ["a", "b"]}
        files["data.yaml"] = json_bytes(draw, mutated_json(draw, content))  # JSON is YAML
    if draw(st.booleans()):
        files["train.txt"] = mutated_text(draw, "images/train/x.png\n./train/images/y.png\n")
        files["classes.txt"] = mutated_text(draw, "a\nb\n")
    return files


def voc_files(draw: Draw) -> Files:
    files: Files = {}
    box = "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
    for split in ("train", "valid"):
        folder, other = draw(st.sampled_from([(split, split), ("JPEGImages", "Annotations"), (".", ".")]))
        for stem in ("x", "y"):
            files[f"{folder}/{stem}.png"] = IMAGE
            objects = f"<object><name>a</name><difficult>0</difficult>{box}</object>\n" * draw(st.integers(0, 2))
            size = "<size><width>60</width><height>40</height></size>"
            text = f"<annotation><filename>{stem}.png</filename>{size}\n{objects}</annotation>"
            files[f"{other}/{stem}.xml"] = mutated_text(draw, text)
    if draw(st.booleans()):
        for name in ("train", "val", "trainval"):
            files[f"ImageSets/Main/{name}.txt"] = mutated_text(draw, "x\ny 1\n")
    return files


def labelme_files(draw: Draw) -> Files:
    files: Files = {}
    for split in ("train", "valid"):
        for stem in ("x", "y"):
            files[f"{split}/{stem}.png"] = IMAGE
            shapes = [
                {
                    "label": "a",
                    "points": [[5, 6], [30, 20]],
                    "shape_type": kind,
                    "group_id": draw(st.sampled_from([None, 1])),
                }
                for kind in draw(st.lists(st.sampled_from(["rectangle", "circle", "mask", "point"]), max_size=3))
            ]
            content = {"shapes": shapes, "imagePath": f"{stem}.png", "imageHeight": 40, "imageWidth": 60}
            files[f"{split}/{stem}.json"] = json_bytes(draw, mutated_json(draw, content))
    return files


def mutated_json(draw: Draw, content: Any) -> Any:
    """The content with some values dropped, exchanged for others, repeated, or put into deep lists."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        places = list(inner_places(content))
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["drop", "value", "value", "repeat", "nest"]))
        if change == "drop":
            del parent[key]
        elif change == "value":
            parent[key] = copy.deepcopy(
                draw(st.sampled_from(VALUES) | st.integers() | st.floats() | st.text(max_size=5))
            )
        elif change == "repeat" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            for _ in range(draw(st.sampled_from([1, 3, 50]))):
                parent[key] = [parent[key]]
    return content


def inner_places(value: Any) -> Any:
    """Each (container, key or index) in a JSON value."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []:
        yield value, key
        yield from inner_places(value[key])


def json_bytes(draw: Draw, content: Any) -> bytes:
    """The JSON text, perhaps with changes that its values cannot have, such as a key that occurs twice."""
    text = json.dumps(content, ensure_ascii=draw(st.booleans()))
    return mutated_text(draw, text) if draw(st.integers(0, 3)) == 0 else text.encode(errors="surrogatepass")


def mutated_text(draw: Draw, text: str) -> bytes:
    """The text as it is, or with words exchanged, parts dropped or repeated, then perhaps with bytes exchanged."""
    if draw(st.integers(0, 3)):
        return text.encode(errors="surrogatepass")
    for _ in range(draw(st.integers(0, 2))):
        change = draw(st.sampled_from(["word", "word", "drop", "repeat", "insert"]))
        words = list(re.finditer(r"[\w.-]+", text))
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 40)))
        if change == "word" and words:
            word = draw(st.sampled_from(words))
            token = draw(st.sampled_from(TOKENS) | st.text(max_size=4) | st.floats().map(str))
            text = text[: word.start()] + token + text[word.end() :]
        elif change == "repeat":
            text = text[:stop] + text[start:]
        elif change == "insert":
            text = text[:start] + draw(st.text(max_size=8)) + text[start:]
        else:
            text = text[:start] + text[stop:]
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"])), "surrogatepass")
    if draw(st.integers(0, 7)) == 0:
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=4)) + data[place + draw(st.integers(0, 4)) :]
    return data


def mutated_tree(draw: Draw, files: Files) -> Files:
    """The files with some moved, removed, added, or with other content."""
    files = dict(files)
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        name = draw(st.sampled_from(sorted(files)))
        change = draw(st.sampled_from(["move", "remove", "add", "bytes", "folder"]))
        if change == "move":
            files[draw(st_path())] = files.pop(name)
        elif change == "remove" and len(files) > 1:
            del files[name]
        elif change == "add":
            files[draw(st_path())] = draw(
                st.sampled_from([IMAGE, b"", b"<annotation/>", b"0 0 0 0 0", b'{"shapes": []}'])
            )
        elif change == "bytes":
            files[name] = draw(st.binary(max_size=30))
        else:
            old, new = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES))
            files = {re.sub(rf"\b{old}/", f"{new}/", key): value for key, value in files.items()}
    return files


def st_path() -> st.SearchStrategy[str]:
    """The path of a file, of names that mean something to a reader and others."""
    other = st.text(st.characters(exclude_characters="/\0\n\r", exclude_categories=("Cs",)), min_size=1, max_size=5)
    name = st.sampled_from(NAMES) | other.filter(lambda text: text not in (".", ".."))
    folders = st.lists(name, max_size=3)
    return st.builds(
        lambda parts, stem, suffix: "/".join([*parts, stem + suffix]), folders, name, st.sampled_from(SUFFIXES)
    )


def random_tree(draw: Draw) -> Files:
    contents = st.sampled_from(
        [IMAGE, b"", b"0 0.5 0.5 0.2 0.2\n", b"<annotation></annotation>", b"a\nb\n"]
    ) | st.binary(max_size=20)
    return draw(st.dictionaries(st_path(), contents, max_size=8))  # type: ignore[no-any-return]


FORMS = {"coco": coco_files, "yolo": yolo_files, "voc": voc_files, "labelme": labelme_files, "auto": random_tree}


@pytest.mark.parametrize("form", FORMS)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_folder_ends_in_boxes_or_an_error_that_names_it(form: str, data: st.DataObject) -> None:
    files = FORMS[form](data.draw)
    if form != "auto":
        files = mutated_tree(data.draw, files)
    chosen = data.draw(st.sampled_from([form, "auto"]))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, content in files.items():
            try:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            except OSError:  # a file where a folder should be
                continue
        check(root, chosen, data.draw(st.sampled_from([None, Holdout(0, 0.3), Holdout(0.5, 1, is_fold=True)])))


def check(root: Path, form: str, holdout: Holdout | None) -> None:
    try:
        data = open_detection(root, format=form, holdout=holdout)
        sources = {split: data[split] for split in data.names}
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    event("an error" if message else f"boxes of {data.found.split()[0]}")
    if message:
        assert str(root) in message
        assert "\n" not in message
        return
    assert sources
    assert "\n" not in data.found
    for source in sources.values():
        assert all("\n" not in line for line in source.warnings)
        check_source(source)


def check_source(source: AnnotatedImages) -> None:
    assert len(source) > 0
    root = source.images.root.resolve()
    for row in range(len(source)):
        truth = source.truth(row)
        height, width = truth.image_hw
        x0, y0, x1, y1 = truth.boxes_xyxy.T
        assert np.isfinite(truth.boxes_xyxy).all()
        assert ((x0 >= 0) & (x0 < x1) & (x1 <= width) & (y0 >= 0) & (y0 < y1) & (y1 <= height)).all()
        assert ((truth.class_ids >= 0) & (truth.class_ids < len(source.categories.names))).all()
        assert truth.areas_px is not None
        assert np.isfinite(truth.areas_px).all()
        assert Path(source.id(row)).resolve().is_relative_to(root)
        try:
            example = source[row]
        except UnreadableImageError:
            continue
        assert example.image.shape[:2] == truth.image_hw
