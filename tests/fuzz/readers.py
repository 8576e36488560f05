"""Every reader of files that users, other programs or earlier runs have written, with small intact files for it."""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import onnx
import pytest
import safetensors.torch
import scipy.io
import torch
import yaml
from onnx import helper

from backbone.build import build_backbone
from backbone.faceres import read_faceres
from backbone.formats import read_state, read_tensors
from datasets.celeba import open_attributes
from datasets.classification.class_folders import open_labelled
from datasets.classification.stanford_dogs import _read_list
from datasets.detection.read import open_detection
from datasets.face_detection import FaceDetector
from datasets.faces import open_faces
from datasets.files import read_json
from datasets.geolocation.places import open_places
from datasets.images.read import UnreadableImageError, image_header, read_image, value_range
from datasets.segmentation.masks import palette
from datasets.segmentation.read import open_segmentation
from datasets.shards.find import CARD
from datasets.shards.index import build_index, write_index
from datasets.shards.tars import INDEX_SUFFIX
from datasets.splits import SplitData
from distill.cache import OutputCache
from tasks.api import Run
from tasks.attributes.config import AttributesConfig
from tasks.common.deploy.exported import ExportedModel
from tasks.common.evaluation.features import _read_cached
from tasks.common.model import neighbours
from tasks.common.prediction.capture import read_frames
from tasks.common.prediction.files import PredictionFiles
from tasks.common.prediction.find import find_sources
from tasks.common.runs.checkpoint import load_checkpoint, save_best
from tasks.common.runs.exported import open_exported
from tasks.common.runs.load import open_run
from tasks.common.settings import read_config
from tasks.common.thresholds import read_pooled
from tasks.detection.graph_def import _message_class as graph_def_class
from tasks.detection.graph_def import read_constants
from tasks.embedding.embedded_file import read_embedded, write_embedded
from tasks.embedding.gallery import Entry as GalleryEntry
from tasks.embedding.gallery import Gallery
from tasks.embedding.metric import RATES
from tasks.embedding.photos import Embedded
from tasks.embedding.search import _strictest_point
from tasks.geolocation.cells import divide, read_cells, write_cells
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.retrieval import Im2GPS
from tasks.geolocation.task import GeolocationTask
from tasks.registry import config_class, inference_class
from tests.datasets.images.test_image_bytes import DEEP, KINDS, real_file
from tests.datasets.strategies import JPEG
from tests.datasets.test_any_folder import (
    CELEBA,
    CELEBA_CSV,
    CELEBA_IMAGES,
    DOG_IMAGES,
    DOGS,
    IMAGENET,
    LFW_IMAGES,
    PAIRS,
    PARTITIONS,
    PLACE_IMAGES,
    PLACES,
    RECORDS,
    exif_jpeg,
    open_lfw,
    shard,
)
from tests.fuzz.damage import Tree, damaged_file, damaged_tree, damaged_value
from tests.fuzz.harness import MAX_BYTES, Reader
from tests.fuzz.tar_damage import SECRET, damaged_shards

Build = Callable[[], Reader]
IMAGE = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
IDS = np.array([[0, 1, 1, 255] * 2] * 6, np.uint8)
COCO = {
    "images": [{"id": k, "file_name": f"{k}.png", "height": 40, "width": 60} for k in (1, 2)],
    "annotations": [
        {
            "id": k,
            "image_id": k,
            "category_id": k,
            "bbox": [5, 5, 20, 10],
            "area": 200,
            "iscrowd": k - 1,
            "segmentation": [[5, 5, 25, 5, 25, 15]] if k == 1 else {"counts": [200, 40, 2160], "size": [40, 60]},
        }
        for k in (1, 2)
    ],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}
VOC = (
    "<annotation><filename>{}.png</filename><size><width>60</width><height>40</height></size><object><name>a</name>"
    "<difficult>0</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>"
    "</annotation>"
)
LABELME = {
    "shapes": [{"label": "a", "points": [[5, 6], [30, 20]], "shape_type": "rectangle", "group_id": None}],
    "imagePath": "x.png",
    "imageHeight": 40,
    "imageWidth": 60,
}
YOLO = {"path": "../x", "train": "train/images", "val": ["valid/images"], "nc": 2, "names": ["a", "b"]}
YOLO_FILES = {f"{split}/images/x.png": IMAGE for split in ("train", "valid")} | {
    f"{split}/labels/x.txt": b"0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.9 0.1 0.5 0.8\n" for split in ("train", "valid")
}


def mask() -> bytes:
    return cv2.imencode(".png", IDS)[1].tobytes()


def written(write: Callable[[Path], object]) -> Tree:
    """The files that a function writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def whole(open_data: Callable[[Path], SplitData[Any]], root: Path) -> None:
    """Read all splits, all truth and all images of a data set; images that cannot be read are its own business."""
    data = open_data(root)
    for split in data.names:
        source = data[split]
        for row in range(len(source)):
            source.truth(row)
            try:
                source[row]
            except UnreadableImageError as error:
                if str(root) not in str(error):
                    raise


def data_set(open_data: Callable[[Path], SplitData[Any]], files: Tree) -> Build:
    return lambda: Reader(files, partial(whole, open_data))


def image_files() -> Reader:
    kinds = [*KINDS, *DEEP]
    files = {f"{number}.bin": real_file(kind) for number, kind in enumerate(kinds)} | {"gps.bin": exif_jpeg()}

    def read(root: Path) -> None:
        errors: list[UnreadableImageError] = []
        for path in sorted(root.rglob("*.bin")):
            for look in (read_image, image_header, value_range):
                try:
                    look(path)
                except UnreadableImageError as error:
                    errors.append(error)
        for error in errors:
            raise error

    return Reader(files, read, max_bytes=2 * MAX_BYTES)


def masks() -> Reader:
    images = {f"images/{stem}.jpg": JPEG for stem in "ab"}
    files = images | {"masks/a.png": mask(), "masks/b.png": mask(), "classes.txt": b"sky\nroad\nvoid 255\n"}
    return Reader(files, partial(whole, open_segmentation))


def segmentation_voc() -> Reader:
    files = {f"ImageSets/Segmentation/{split}.txt": f"{split}1\n".encode() for split in ("train", "val")}
    files |= {f"JPEGImages/{split}1.jpg": JPEG for split in ("train", "val")}
    colours = cv2.imencode(".png", palette()[IDS][..., ::-1])[1].tobytes()
    files |= {"SegmentationClass/train1.png": mask(), "SegmentationClass/val1.png": colours}
    return Reader(files, partial(whole, partial(open_segmentation, format="voc")))


SHARD_BOXES = {"annotations": COCO["annotations"], "height": 6, "width": 8}
SHARD_MASK = cv2.imencode(".png", IDS[:6, :8])[1].tobytes()
SHARD_CARD = {"class_names": ["a", "b"], "categories": COCO["categories"], "attribute_names": ["a", "b"]}


def shards_of(kind: str, open_data: Callable[[Path], SplitData[Any]], records: list[dict[str, bytes]]) -> Build:
    """Two tar files, an index beside the first, and a card."""

    def build() -> Reader:
        def write(folder: Path) -> None:
            for number, record in enumerate(records):
                path = folder / f"{('train', 'val')[number]}.tar"
                with tarfile.open(path, "w") as archive:
                    for key in ("a", "b"):
                        for suffix, data in ({".jpg": JPEG} | record).items():
                            member = tarfile.TarInfo(f"{key}{number}{suffix}")
                            member.size = len(data)
                            archive.addfile(member, io.BytesIO(data))
            write_index(folder / f"train{INDEX_SUFFIX}", build_index(folder / "train.tar"))
            (folder / CARD).write_text(json.dumps({"kind": kind} | SHARD_CARD))

        return Reader(written(write), partial(whole, open_data), around={SECRET: IMAGE}, damage=damaged_shards)

    return build


def matlab_files() -> Reader:
    """Each kind of array that is read, and others; as MATLAB writes them, and compressed."""
    names, labels = np.array([["a/1.jpg"], ["b/\u03a9.jpg"]], object), np.array([[1], [2]])
    arrays = {"file_list": names, "labels": labels, "x": {"y": labels}, "z": np.array([["a", labels]], object)}

    def write(folder: Path) -> None:
        for is_compressed in (False, True):
            scipy.io.savemat(folder / f"{is_compressed}.mat", arrays, do_compression=is_compressed)

    def read(root: Path) -> None:
        for path in sorted(root.rglob("*.mat")):
            _read_list(path)

    return Reader(written(write), read)


def coco_files() -> Tree:
    content = json.dumps(COCO).encode()
    return {"annotations/instances_val2017.json": content} | {f"val2017/{k}.png": IMAGE for k in (1, 2)}


def hdf5() -> Reader:
    def write(folder: Path) -> None:
        with h5py.File(folder / "w.h5", "w") as file:
            file["conv1/conv1/kernel:0"] = np.ones((3, 3, 3, 8), np.float32)
            file["conv1_bn/conv1_bn/gamma:0"] = np.ones(8, np.float32)
            file.create_dataset("conv_dw_1/x/depthwise_kernel:0", data=np.ones((3, 3, 8, 1), "f4"), compression="gzip")
            file.attrs["layer_names"] = [b"conv1", b"conv_dw_1"]

    return Reader(written(write), lambda root: read_state(root / "w.h5"))


STATE = {"conv_stem.weight": torch.ones(8, 3, 3, 3), "bn1.weight": torch.ones(8), "classifier.bias": torch.zeros(5)}


def state_files(name: str, save: Callable[[Path], object]) -> Build:
    def build() -> Reader:
        files = written(lambda folder: save(folder / name))
        return Reader(files, lambda root: [read_tensors(root / name), read_state(root / name)])

    return build


def faceres() -> Reader:
    """Not the 7 MB that the file has: the arrays are read before their shapes are compared."""
    file = io.BytesIO()
    np.savez(file, **{"feats/kernel": np.ones((4, 2), "f2"), "feats/bias": np.ones(2, "f2")})

    def read(root: Path) -> None:
        try:
            read_faceres(root / "f.npz")
        except ValueError as error:
            if "age_pred/bias is missing" not in str(error):  # of the intact file
                raise

    return Reader({"f.npz": file.getvalue()}, read)


def frozen_graph() -> Reader:
    graph = graph_def_class()()
    for name, array in {"a/weights": np.ones((1, 1, 3, 8), "<f4"), "b/gamma": np.ones(8, "<f4")}.items():
        attribute = graph.node.add(name=name, op="Const").attr.add(key="value")
        attribute.value.tensor.dtype, attribute.value.tensor.tensor_content = 1, array.tobytes()
        for size in array.shape:
            attribute.value.tensor.tensor_shape.dim.add(size=size)
    return Reader({"g.pb": graph.SerializeToString()}, lambda root: read_constants(root / "g.pb"))


# Of a network of three labels, by task.
OUTPUTS = {
    "attributes": "float[N, 3] probabilities",
    "classification": "float[N, 3] probabilities",
    "detection": "float[N, 3, 4] boxes_xyxy, float[N, 3] scores, int64[N, 3] class_ids",
    "embedding": "float[N, 3] embedding",
    "geolocation": "float[N, 3] probabilities",
    "segmentation": "float[N, 3, 8, 8] class_logits",
}


def onnx_file(task: str, metadata: dict[str, Any]) -> bytes:
    """As `export` writes it, with a small network of three labels."""
    graph = onnx.parser.parse_graph(
        f"""
        g (uint8[N, 3, 8, 8] images) => ({OUTPUTS[task]}) {{
            w = Constant <value_float = 0.01> ()
            pixels = Cast <to = 1> (images)
            class_logits = Mul (pixels, w)
            embedding = ReduceMean <axes = [2, 3], keepdims = 0> (class_logits)
            probabilities = Sigmoid (embedding)
            scores = Identity (probabilities)
            zeros = Constant <value_ints = [0, 0, 0, 0]> ()
            sides = Gather <axis = 2> (class_logits, zeros)
            box = Constant <value_ints = [0, 1, 2, 3]> ()
            boxes = Gather <axis = 3> (sides, box)
            boxes_xyxy = ReduceMean <axes = [2], keepdims = 0> (boxes)
            none = Cast <to = 7> (probabilities)
            last = Constant <value_ints = [1]> ()
            labels = Squeeze (postprocessing_class_column, last)
            class_ids = Add (none, labels)
        }}"""
    )
    labels = np.arange(3)[:, None]
    graph.initializer.append(onnx.numpy_helper.from_array(labels, "postprocessing_class_column"))
    model: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    settings = json.dumps({"data.input_size": 8})
    helper.set_model_props(model, {"task": task, "metadata": json.dumps(metadata), "settings": settings})
    return model.SerializeToString()  # type: ignore[no-any-return]


def onnx_model() -> Reader:
    files = {"model.onnx": onnx_file("detection", METADATA["detection"])}
    return Reader(files, lambda root: ExportedModel(root / "model.onnx", num_threads=1))


def place_metadata() -> dict[str, Any]:
    cells = divide(np.array([10.0, 30.0, 50.0]), np.array([20.0, 40.0, 60.0]), max_photos=[1], min_photos=1)
    partitionings = [part.to_json() for part in cells]
    return {"method": "classification", "partitionings": partitionings, "guesses": [[10.0, 20.0], [30.0, 40.0]]}


# Of a model of each task.
METADATA: dict[str, dict[str, Any]] = {
    "attributes": {"attribute_names": ["a", "b", "c"], "prevalence": [0.5, 0.25, 0.1]},
    "classification": {"data": "folder", "class_names": ["a", "b", "c"]},
    "detection": {"class_names": ["a", "b", "c"], "category_ids": [1, 2, 4]},
    "embedding": {"identities": ["a", "b"], "onnx": {"input_size": 32}},
    "geolocation": place_metadata(),
    "segmentation": {"class_names": ["a", "b", "c"], "num_pixels": [10, 20, 30]},
}


def onnx_metadata() -> Reader:
    """The properties of an export of each task, changed one by one in a file that is whole otherwise; it predicts."""
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)

    def damage(tree: Tree, rng: random.Random) -> Tree:
        name = rng.choice(sorted(tree))
        model = onnx.load_model_from_string(tree[name])
        prop = rng.choice([*model.metadata_props, *(prop for prop in model.metadata_props if prop.key == "metadata")])
        if rng.random() < 0.6 and prop.key != "task":
            prop.value = json.dumps(damaged_value(json.loads(prop.value), rng))
        else:
            prop.value = damaged_file(prop.value.encode(), rng).decode("utf-8", "replace")
        return {name: model.SerializeToString()}

    def read(root: Path) -> None:
        for path in root.glob("*/model.onnx"):
            model = open_exported(path.parent.name, config_class(path.parent.name)(), path.parent)
            if model is not None:
                model.task.predictor_settings()
                (predicted,) = model([image])
                model.task.describe(predicted, image.shape[:2])
                model.task.summarize([predicted])

    return Reader({f"{task}/model.onnx": onnx_file(task, METADATA[task]) for task in METADATA}, read, damage=damage)


def checkpoints() -> Reader:
    """Of each task, with other values in a file that is whole."""
    tensors = (torch.zeros(2), torch.zeros(0, 3), torch.full((2,), torch.nan), torch.zeros(8, dtype=torch.int8))

    def damage(tree: Tree, rng: random.Random) -> Tree:
        name, file = rng.choice(sorted(tree)), io.BytesIO()
        content = torch.load(io.BytesIO(tree[name]), weights_only=True)
        torch.save(damaged_value(content, rng, others=tensors), file)
        return {name: file.getvalue()}

    def write(folder: Path) -> None:
        for task, metadata in METADATA.items():
            (folder / task).mkdir()
            save_best(folder / task, {"task": task, "model": STATE, "metadata": metadata, "epoch": 3})

    def read(root: Path) -> None:
        for path in root.glob("*/best.pt"):
            content = load_checkpoint(path, path.parent.name)
            inference_class(path.parent.name)(config_class(path.parent.name)(), content["metadata"])

    return Reader(written(write), read, damage=damage)


def face_detector() -> Reader:
    from tests.yunet import write_detector

    files = written(lambda folder: write_detector(folder / "yunet.onnx"))
    return Reader(files, lambda root: FaceDetector(root / "yunet.onnx"))


def checkpoint() -> Reader:
    content = {"task": "detection", "model": STATE, "metadata": METADATA["detection"], "epoch": 3}
    return Reader(
        written(lambda folder: save_best(folder, content)), lambda root: load_checkpoint(root / "best.pt", "detection")
    )


def retrieval_run() -> Reader:
    """With cells in its label map and a gallery in its network."""
    settings = {"method": "retrieval", "backbone": {"name": "mobilenet_0.1"}, "data": {"input_size": 32}}
    places = torch.tensor([[10.0, 20.0], [30.0, 40.0]], dtype=torch.float64)
    cells = divide(*places.numpy().T, max_photos=[1], min_photos=1)
    metadata = {"method": "retrieval", "partitionings": [part.to_json() for part in cells], "guesses": places.tolist()}

    def write(folder: Path) -> None:
        network = Im2GPS(build_backbone("mobilenet_0.1"), num_neighbours=1)
        network.fill(torch.eye(2, network.backbone.num_features), *places.numpy().T)
        save_best(folder, {"task": "geolocation", "model": network.state_dict(), "metadata": metadata})
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))

    return Reader(written(write), lambda root: open_run(root, GeolocationTask, GeolocationConfig))


def gallery(size: int, kind: neighbours.Kind = "flat") -> Build:
    """Of a kind that galleries have at larger sizes."""

    def build() -> Reader:
        vectors = np.random.default_rng(0).normal(size=(size, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

        def write(folder: Path) -> None:
            entries = [GalleryEntry(f"/photos/{number}.jpg", (1.0, 2.0, 3.0, 4.0)) for number in range(size)]
            new = Gallery.new(folder / "g.faiss", 8, "net")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(neighbours, "choose_kind", lambda _: kind)
                new.add({entry.path: number for number, entry in enumerate(entries)}, entries, vectors)
            assert new.kind == kind

        return Reader(written(write), lambda root: Gallery.read(root / "g.faiss").search(vectors[:2], 3))

    return build


def embedded_photos() -> Reader:
    """Of an interrupted `index`, which goes on."""
    entries = [GalleryEntry(f"/photos/{number}.jpg", (1.0, 2.0, 3.0, 4.0)) for number in range(5)]
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    content = Embedded(entries, vectors, [None] * 5)
    ids = {entry.path: number for number, entry in enumerate(entries)}
    return Reader(
        written(lambda folder: write_embedded(folder / "1.npz", content, ids)),
        lambda root: read_embedded(root / "1.npz").read_embeddings(),
    )


def cells() -> Reader:
    rng = np.random.default_rng(0)
    partitionings = divide(rng.uniform(-60, 60, 40), rng.uniform(-150, 150, 40), max_photos=[20, 5], min_photos=1)
    return Reader(
        written(lambda folder: write_cells(folder / "cells.csv", partitionings)),
        lambda root: read_cells(root / "cells.csv"),
    )


def settings() -> Reader:
    content = {"backbone": {"name": "mobilenet_0.5"}, "data": {"input_size": 64}, "optim": {"lr": 0.1, "epochs": 2}}
    text = yaml.safe_dump(content).encode()
    return Reader({"config.yaml": text}, lambda root: read_config(AttributesConfig, root / "config.yaml"))


def threshold_table() -> Reader:
    lines = ["class,threshold,true_positives,false_positives,objects", "all,0.5,3,1,4", "all,0.7,2,0,4", "a,0.5,3,1,4"]
    return Reader({"t.csv": "\n".join(lines).encode()}, lambda root: read_pooled(root / "t.csv"))


def predictions() -> Reader:
    """Of an interrupted `predict`, which goes on."""

    def write(folder: Path) -> None:
        with PredictionFiles(folder, "digest"):
            pass
        (folder / "predictions.jsonl").write_text(
            '{"image": "a.jpg", "frame": null}\n{"image": "b.jpg", "frame": null}\n'
        )

    return Reader(written(write), lambda root: PredictionFiles(root, "digest").__exit__())


def input_list() -> Reader:
    """The user's own, which may name any file; here those of its folder alone, or all of the machine's are listed."""

    def damage(tree: Tree, rng: random.Random) -> Tree:
        tree = damaged_tree(tree, rng)
        return {name: re.sub(rb"(^|[\r\n])\W*/|\.\.", rb"\1", data) for name, data in tree.items()}

    files = {"list.txt": b"# photos\na.jpg\n\nb/c.jpg\n", "a.jpg": JPEG, "b/c.jpg": JPEG}
    return Reader(files, lambda root: find_sources([str(root / "list.txt")]), damage=damage)


def video() -> Reader:
    def write(folder: Path) -> None:
        writer = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 32))
        for value in (0, 100, 200):
            writer.write(np.full((32, 32, 3), value, np.uint8))
        writer.release()

    return Reader(written(write), lambda root: list(read_frames(str(root / "v.avi"), str(root / "v.avi"))))


def teacher_cache() -> Reader:
    def write(folder: Path) -> None:
        OutputCache(folder, 1, 2, 3).put(0, 1, b"digest", np.ones(3, np.float16))

    return Reader(written(write), lambda root: OutputCache(root, 1, 2, 3).get(0, 1, b"digest"))


def run_tables() -> Reader:
    """What a program reads of a run: `tasks.train(...).scores` and `.history`."""
    log = b"epoch,step,loss,AP\n1,10,0.5,\n2,20,0.25,0.1\n"
    scores = json.dumps({"AP": 0.5, "AR": None, "epoch": 2}).encode()
    return Reader({"metrics.json": scores, "log.csv": log}, lambda root: [Run(root).scores, Run(root).history])


def verification_rates() -> Reader:
    table = b"far,impostor_pairs,tar,threshold\n0.1,100,0.9,0.4\n0.01,100,0.8,nan\n"
    return Reader({f"evaluate-val/{RATES}": table}, lambda root: _strictest_point(str(root)))


def cached_features() -> Reader:
    """Damaged ones are computed anew."""
    file = io.BytesIO()
    np.savez(file, values=np.ones((3, 4), np.float32), rows=[0, 1, 2], num_unreadable=0)
    return Reader({"f.npz": file.getvalue()}, lambda root: _read_cached(root / "f.npz"))


READERS: dict[str, Build] = {
    "images": image_files,
    "class_folders": data_set(
        lambda root: open_labelled(root)[0],
        {f"{split}/{name}/1.jpg": JPEG for split in ("train", "val") for name in ("n01", "n02")}
        | {"classes.txt": IMAGENET},
    ),
    "stanford_dogs": data_set(lambda root: open_labelled(root, format="stanford_dogs")[0], DOG_IMAGES | DOGS),
    "matlab": matlab_files,
    "faces": data_set(
        open_faces,
        {f"train/{name}": data for name, data in LFW_IMAGES.items()} | {"val/Eve/1.jpg": JPEG, "val/Eve/2.jpg": JPEG},
    ),
    "lfw_pairs": data_set(open_lfw, LFW_IMAGES | {"pairs.txt": PAIRS}),
    "celeba": data_set(
        open_attributes, CELEBA_IMAGES | {"list_attr_celeba.txt": CELEBA, "list_eval_partition.txt": PARTITIONS}
    ),
    "celeba_csv": data_set(open_attributes, CELEBA_IMAGES | {"attributes.csv": CELEBA_CSV}),
    "places_csv": data_set(open_places, PLACE_IMAGES | {"places.csv": PLACES}),
    "places_exif": data_set(open_places, {f"{number}.jpg": exif_jpeg() for number in range(3)}),
    "shards": lambda: Reader(
        {"0.tar": shard(RECORDS)}, partial(whole, open_places), around={SECRET: IMAGE}, damage=damaged_shards
    ),
    "shards_classes": shards_of(
        "classification", lambda root: open_labelled(root)[0], [{".cls": b"0"}, {".cls": b"1"}]
    ),
    "shards_boxes": shards_of("detection", open_detection, [{".json": json.dumps(SHARD_BOXES).encode()}] * 2),
    "shards_masks": shards_of("segmentation", open_segmentation, [{".mask.png": SHARD_MASK}] * 2),
    "shards_attributes": shards_of("attributes", open_attributes, [{".json": b'{"a": 1, "b": 0}'}] * 2),
    "shards_faces": shards_of("embedding", open_faces, [{".json": b'{"person": "A"}'}, {".json": b'{"person": "B"}'}]),
    "coco": data_set(open_detection, coco_files()),
    "yolo": data_set(open_detection, YOLO_FILES | {"data.yaml": yaml.safe_dump(YOLO).encode()}),
    "voc": data_set(
        open_detection,
        {f"JPEGImages/{stem}.png": IMAGE for stem in "xy"}
        | {f"Annotations/{stem}.xml": VOC.format(stem).encode() for stem in "xy"}
        | {"ImageSets/Main/train.txt": b"x\n", "ImageSets/Main/val.txt": b"y\n"},
    ),
    "labelme": data_set(
        open_detection,
        {
            f"{split}/x.{kind}": data
            for split in ("train", "valid")
            for kind, data in (("png", IMAGE), ("json", json.dumps(LABELME).encode()))
        },
    ),
    "masks": masks,
    "masks_voc": segmentation_voc,
    "masks_coco": data_set(partial(open_segmentation, format="coco"), coco_files()),
    "hdf5": hdf5,
    "safetensors": state_files("w.safetensors", lambda path: safetensors.torch.save_file(STATE, path)),
    "torch": state_files("w.pth", lambda path: torch.save(STATE, path)),
    "torch_legacy": state_files("w.pth", lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False)),
    "npz": faceres,
    "frozen_graph": frozen_graph,
    "onnx": onnx_model,
    "onnx_metadata": onnx_metadata,
    "face_detector": face_detector,
    "checkpoint": checkpoint,
    "checkpoints": checkpoints,
    "retrieval_run": retrieval_run,
    "gallery": gallery(6),
    "gallery_hnsw": gallery(40, "hnsw"),
    "gallery_ivfpq": gallery(100, "ivfpq"),
    "embedded_photos": embedded_photos,
    "cells": cells,
    "config": settings,
    "thresholds": threshold_table,
    "predictions": predictions,
    "run_tables": run_tables,
    "verification_rates": verification_rates,
    "cached_features": cached_features,
    "input_list": input_list,
    "video": video,
    "teacher_cache": teacher_cache,
    "json": lambda: Reader({"a.json": json.dumps(COCO).encode()}, lambda root: read_json(root / "a.json", "JSON")),
}


def build_reader(name: str) -> Reader:
    """A reader by its name in READERS."""
    return READERS[name]()
