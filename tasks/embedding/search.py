"""`python -m tasks.embedding index`, `search` and `remove`: a gallery of photos, and its most similar ones."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from datasets.alignment import SEVERAL_FACES, DetectedFace, FaceCrop, NoFaceError
from datasets.files import atomic_write
from datasets.images.read import IMAGE_SUFFIXES, write_image
from datasets.loader import EvaluationSet, build_loader, ordered_batches
from datasets.progress import Progress
from datasets.stores import ImageFiles, StoredExamples
from datasets.transforms import center_crop
from datasets.types import Example, Face
from datasets.words import plural
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.onnx_file import ExportedNetwork
from tasks.common.evaluation.evaluate import predict_batch, predict_pixels, readable_batches, track_unreadable
from tasks.common.evaluation.features import hash_network
from tasks.common.model.neighbours import Floats
from tasks.common.prediction.sources import find_files
from tasks.common.runs.folder import out_folder
from tasks.common.runs.load import load_model
from tasks.common.runtime.device import uses_cuda
from tasks.common.task import Task
from tasks.embedding.draw import draw_matches
from tasks.embedding.gallery import Gallery
from tasks.embedding.metric import RATES
from tasks.embedding.model import stack_embeddings
from tasks.embedding.verification import OperatingPoint

BATCH_SIZE = 32
PHOTOS_PER_WRITE = 50_000  # lost at most in a crash
SHEET, MATCHES = "matches.png", "matches.jsonl"
NUM_DRAWN = 12  # queries


def index(task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Add photos to a gallery."""
    options = arguments.options
    out = Path(options["out"])
    if out.suffix != ".faiss":
        raise ValueError(f"--out: expected a file name ending in .faiss, got {out}")
    photos = _photos(options["inputs"])
    task, model = load_model(task_class, arguments.config, options["run"], arguments.given)
    gallery = _open_gallery(out, task, model) if out.exists() else _new_gallery(out, task, model)
    new = gallery.missing(photos)
    with Progress("embedding", len(new)) as progress:
        for start in range(0, len(new), PHOTOS_PER_WRITE):
            embedded = _embed(task, model, list(new)[start : start + PHOTOS_PER_WRITE], progress)
            gallery.add({name: new[name] for name in embedded.names}, embedded.embeddings)
    print(f"{plural(len(new), 'photo')} new or changed; {out} ({gallery.kind}) has {len(gallery)}", file=sys.stderr)
    return 0


def remove(_task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Remove photos from a gallery; their files need not exist."""
    gallery = Gallery.read(Path(arguments.options["gallery"]))
    num_removed = gallery.remove([os.path.abspath(target) for target in arguments.options["inputs"]])
    print(f"removed {plural(num_removed, 'photo')}; {gallery.path} has {len(gallery)}", file=sys.stderr)
    return 0


def search(task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Find the most similar photos, write and draw them."""
    options = arguments.options
    if options["num_matches"] < 1:
        raise ValueError(f"--num_matches: expected 1 or more, got {options['num_matches']}")
    queries = _photos(options["inputs"])
    task, model = load_model(task_class, arguments.config, options["run"], arguments.given)
    gallery = _open_gallery(Path(options["gallery"]), task, model)
    with Progress("embedding", len(queries)) as progress:
        names, embeddings, faces = _embed(task, model, queries, progress)
    found = gallery.search(embeddings, options["num_matches"])
    folder = out_folder(task, "search", out=options["out"], run=options["run"])
    with atomic_write(folder / MATCHES) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, face, matches in zip(names, faces, found, strict=True):
            record = {"image": name} | (face.to_record() if face is not None else {})
            file.write(json.dumps(record | {"matches": [match._asdict() for match in matches]}) + "\n")
            best = f"{matches[0].similarity:.3f} {matches[0].path}" if matches else "the gallery is empty"
            print(f"{name}: {best}")
    drawn = list(zip(names, found, strict=True))[:NUM_DRAWN]
    write_image(folder / SHEET, draw_matches(drawn, _strictest_point(options["run"]), task.decoding))
    print(f"wrote {SHEET} and {MATCHES} to {folder}", file=sys.stderr)
    return 0


def _photos(inputs: Sequence[str]) -> list[str]:
    """Absolute paths of the images among files, folders and globs, without duplicates."""
    return list(dict.fromkeys(map(os.path.abspath, find_files(inputs, IMAGE_SUFFIXES))))


class _Embedded(NamedTuple):
    """The photos that have a face.

    Attributes:
        names: N paths.
        embeddings: (N, D).
        faces: the face that was taken of each; None without a detector.
    """

    names: list[str]
    embeddings: Floats
    faces: list[DetectedFace | None]


class _FacePhotos(StoredExamples[DetectedFace | None]):
    """Face crops, and as truth the face that was taken."""

    def __init__(self, photos: Sequence[str], face_crop: FaceCrop) -> None:
        super().__init__(ImageFiles(Path("/"), photos), ())
        self._face_crop = face_crop

    def __getitem__(self, index: int) -> Example[DetectedFace | None]:
        try:
            crop, face = self._face_crop.find(self.images.read(index, self.decoding))
        except NoFaceError as error:
            raise NoFaceError(f"{self.id(index)}: {error}") from error
        return Example(crop, face, self.id(index))

    def truth(self, index: int) -> DetectedFace | None:
        return self[index].truth


def _embed(task: Task[Face], model: Any, photos: Sequence[str], progress: Progress) -> _Embedded:
    """Embed the photos; those that cannot be read, and those without a face, are named, counted and left out."""
    config = task.config
    source = _FacePhotos(photos, FaceCrop(config.data.face_part, config.data.align))
    source.decoding = task.decoding
    loader: Any = build_loader(
        EvaluationSet(source, partial(center_crop, input_size=config.data.input_size, crop_fraction=1)),
        ordered_batches(len(photos), BATCH_SIZE),
        num_workers=config.loop.num_workers,
        pin_memory=uses_cuda(config.loop),
    )
    unreadable = track_unreadable(task, loader)
    rows: list[int] = []
    predicted: list[Face] = []
    faces: list[DetectedFace | None] = []
    for batch in readable_batches(task, loader, unreadable):
        if len(batch):
            predicted += predict_batch(task, model, batch.images)
        faces += batch.truth
        rows += batch.rows
        progress.advance(len(batch) + len(batch.unreadable))
    if unreadable.empty:
        print(f"{plural(len(unreadable.empty), 'photo')} of {len(photos)} left out: no face found", file=sys.stderr)
    num_several = sum(face is not None and face.num_faces > 1 for face in faces)
    if num_several:
        print(f"{plural(num_several, 'photo')} {SEVERAL_FACES}", file=sys.stderr)
    return _Embedded([photos[row] for row in rows], stack_embeddings(predicted), faces)


def _new_gallery(path: Path, task: Task[Face], model: Any) -> Gallery:
    side = task.config.data.input_size
    embeddings = stack_embeddings(predict_pixels(task, model, [np.zeros((side, side, 3), np.uint8)]))
    return Gallery.new(path, embeddings.shape[1], _network_digest(task, model))


def _open_gallery(path: Path, task: Task[Face], model: Any) -> Gallery:
    gallery = Gallery.read(path)
    if gallery.network != _network_digest(task, model):
        raise ValueError(
            f"{path}: built with another network, data.input_size, data.pixel_range, data.face_part or data.align, "
            "so its embeddings are not comparable. Use the same --run and settings, or index into another file"
        )
    return gallery


def _network_digest(task: Task[Face], model: Any) -> str:
    """A digest of everything that an embedding depends on besides the photo."""
    embedder: nn.Module = model
    conventions = None  # of an exported network: in its graph
    if not isinstance(model, ExportedNetwork):
        embedder = nn.ModuleList([model.backbone, model.head.projection])  # without the class prototypes
        conventions = str(model.backbone.conventions)
    data = task.config.data
    settings = [conventions, data.input_size, data.face_part, data.align is not None]
    if data.pixel_range is not None:
        settings.append(data.pixel_range)
    return hash_network(embedder, settings).hexdigest()[:32]


def _strictest_point(run: str | None) -> OperatingPoint | None:
    """The operating point with the lowest false accept rate that `evaluate` has written to the run, if any."""
    path = Path(run or "") / "evaluate-val" / RATES
    if run is None or not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        points = [
            OperatingPoint(float(row["far"]), int(row["impostor_pairs"]), float(row["tar"]), float(row["threshold"]))
            for row in csv.DictReader(file)
        ]
    return min((point for point in points if not math.isnan(point.threshold)), default=None)
