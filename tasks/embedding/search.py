"""`python -m tasks.embedding index`, `search` and `remove`: a gallery of photos, and its most similar ones."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from datasets.alignment import FaceCrop, prepare_faces
from datasets.face_detection import WhichFaces
from datasets.files import atomic_write, only_process
from datasets.images.read import IMAGE_SUFFIXES, Decoding, UnreadableImageError, write_image
from datasets.loader import build_loader, ordered_batches
from datasets.progress import Progress
from datasets.sources import unreadable_example
from datasets.stores import ImageFiles
from datasets.types import DetectedFace, Example, Face, Unreadable
from datasets.words import plural
from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.evaluate import TorchPredictor, readable_batches, track_unreadable
from tasks.common.face_inference import FaceInference
from tasks.common.face_task import FaceTask
from tasks.common.inference_task import predict_all
from tasks.common.model.neighbours import Floats
from tasks.common.prediction.find import find_files
from tasks.common.prediction.model import Model
from tasks.common.prediction.open import load_model
from tasks.common.runs.folder import out_folder
from tasks.common.runtime.device import uses_cuda
from tasks.embedding.draw import draw_matches
from tasks.embedding.gallery import Entry, Gallery
from tasks.embedding.metric import RATES, stack_embeddings
from tasks.embedding.model import FaceNet
from tasks.embedding.verification import OperatingPoint

PHOTOS_AT_ONCE = 32
PHOTOS_PER_WRITE = 50_000  # lost at most in a crash
SHEET, MATCHES = "matches.png", "matches.jsonl"
NUM_DRAWN = 12  # queries


def index(task_class: type[FaceTask[Face]], arguments: Arguments) -> int:
    """Add photos to a gallery."""
    options = arguments.options
    out = Path(options["out"])
    if out.suffix != ".faiss":
        raise ValueError(f"--out: expected a file name ending in .faiss, got {out}")
    photos = _photos(options["inputs"])
    model = load_model(task_class.name, arguments.config, options["run"], arguments.given)
    task: Any = model.task
    out.parent.mkdir(parents=True, exist_ok=True)
    with only_process(out, "--out"):
        gallery = _open_gallery(out, task, model) if out.exists() else _new_gallery(out, task, model)
        new, num_faces = gallery.missing(photos), 0
        with Progress("embedding", len(new)) as progress:
            for start in range(0, len(new), PHOTOS_PER_WRITE):
                embedded = _embed(task, model, list(new)[start : start + PHOTOS_PER_WRITE], progress)
                num_faces += len(embedded.entries)
                gallery.add(new, embedded.entries, embedded.embeddings)
    counted = "" if task.config.data.align is None else f", {plural(num_faces, 'face')} in them"
    print(
        f"{plural(len(new), 'photo')} new or changed{counted}; {out} ({gallery.kind}) has {len(gallery)}",
        file=sys.stderr,
    )
    return 0


def remove(_task_class: type[FaceTask[Face]], arguments: Arguments) -> int:
    """Remove photos from a gallery; their files need not exist."""
    path = Path(arguments.options["gallery"])
    with only_process(path, "--gallery") if path.exists() else nullcontext():
        gallery = Gallery.read(path)
        num_removed = gallery.remove([os.path.abspath(target) for target in arguments.options["inputs"]])
    print(f"removed {plural(num_removed, 'photo')}; {gallery.path} has {len(gallery)}", file=sys.stderr)
    return 0


def search(task_class: type[FaceTask[Face]], arguments: Arguments) -> int:
    """Find the most similar photos, write and draw them."""
    options = arguments.options
    if options["num_matches"] < 1:
        raise ValueError(f"--num_matches: expected 1 or more, got {options['num_matches']}")
    queries = _photos(options["inputs"])
    model = load_model(task_class.name, arguments.config, options["run"], arguments.given)
    task: Any = model.task
    gallery = _open_gallery(Path(options["gallery"]), task, model)
    with Progress("embedding", len(queries)) as progress:
        entries, embeddings, faces = _embed(task, model, queries, progress)
    found = gallery.search(embeddings, options["num_matches"])
    folder = out_folder(task, "search", out=options["out"], run=options["run"])
    with atomic_write(folder / MATCHES) as temporary, temporary.open("w", encoding="utf-8") as file:
        for (photo, box), face, matches in zip(entries, faces, found, strict=True):
            record = {"image": photo} | (face.to_record() if face is not None else {})
            file.write(json.dumps(record | {"matches": [match._asdict() for match in matches]}) + "\n")
            at = "" if box is None else f", face at {', '.join(f'{value:.0f}' for value in box)}"
            others = [f"{match.similarity:.3f} {match.path}" for match in matches if match.path != photo]
            nothing = "only the photo itself" if matches else "the gallery is empty"
            print(f"{photo}{at}: {others[0] if others else nothing}")
    drawn = list(zip(entries, found, strict=True))[:NUM_DRAWN]
    write_image(folder / SHEET, draw_matches(drawn, _strictest_point(options["run"]), task.decoding))
    print(f"wrote {SHEET} and {MATCHES} to {folder}", file=sys.stderr)
    return 0


def _photos(inputs: Sequence[str]) -> list[str]:
    """Absolute paths of the images among files, folders and globs, without duplicates."""
    return list(dict.fromkeys(map(os.path.abspath, find_files(inputs, IMAGE_SUFFIXES))))


class _Embedded(NamedTuple):
    """Photos, or each of their faces, with their embeddings.

    Attributes:
        entries: N, of the gallery or of a query.
        embeddings: (N, D).
        faces: N, detected; None without a detector.
    """

    entries: list[Entry]
    embeddings: Floats
    faces: list[DetectedFace | None]


class _Faces(Dataset[Any]):
    """The faces of photos, as examples with the detected face as truth; a batch of photos may have any number."""

    def __init__(
        self, photos: Sequence[str], decoding: Decoding, face_crop: FaceCrop, input_size: int, which: WhichFaces
    ) -> None:
        self._images, self._decoding = ImageFiles(Path("/"), photos), decoding
        self._photos = list(photos)
        self._settings: Any = {"face_crop": face_crop, "input_size": input_size, "which": which}

    def __len__(self) -> int:
        return len(self._photos)

    def __getitems__(self, rows: list[int]) -> list[Example[DetectedFace | None] | Unreadable]:
        """The faces of a batch of photos; called by torch's DataLoader."""
        return [example for row in rows for example in self[row]]

    def __getitem__(self, row: int) -> list[Example[DetectedFace | None] | Unreadable]:
        photo = self._photos[row]
        try:
            image = self._images.read(row, self._decoding)
        except UnreadableImageError as error:
            return [unreadable_example(str(error), error)]
        try:
            return [Example(one.pixels, one.face, photo, row) for one in prepare_faces(image, **self._settings)]
        except UnreadableImageError as error:
            return [unreadable_example(f"{photo}: {error}", error)]


def _embed(task: FaceInference[Face], model: Model[Face], photos: Sequence[str], progress: Progress) -> _Embedded:
    """Embed the photos; those that cannot be read, and those without a face, are named, counted and left out."""
    config = task.config
    loader: Any = build_loader(
        _Faces(photos, task.decoding, task.face_crop, config.data.input_size, config.faces),
        ordered_batches(len(photos), PHOTOS_AT_ONCE),
        num_workers=config.loop.num_workers,
        pin_memory=uses_cuda(config.loop),
    )
    unreadable = track_unreadable(task, loader)
    rows: list[int] = []
    predicted: list[Face] = []
    faces: list[DetectedFace | None] = []
    for batch in readable_batches(task, loader, unreadable):
        crops = list(batch.images.permute(0, 2, 3, 1).numpy())
        predicted += predict_all(model.predictor, crops)  # a photo may have a hundred faces
        faces += batch.truth
        rows += batch.rows
        progress.advance(len(set(batch.rows)) + len(batch.unreadable))
    if unreadable.empty:
        reason = "not exactly one face found" if config.faces == "one" else "no face found"
        print(f"{plural(len(unreadable.empty), 'photo')} of {len(photos)} left out: {reason}", file=sys.stderr)
    entries = [Entry(photos[row], face and face.box_xyxy) for row, face in zip(rows, faces, strict=True)]
    return _Embedded(entries, stack_embeddings(predicted), faces)


def _new_gallery(path: Path, task: FaceInference[Face], model: Model[Face]) -> Gallery:
    side = task.config.data.input_size
    embeddings = stack_embeddings(model.predictor([np.zeros((side, side, 3), np.uint8)]))
    return Gallery.new(path, embeddings.shape[1], _network_digest(task, model))


def _open_gallery(path: Path, task: FaceInference[Face], model: Model[Face]) -> Gallery:
    gallery = Gallery.read(path)
    if gallery.network != _network_digest(task, model):
        raise ValueError(
            f"{path}: built with another network, onnx_input, data.input_size, data.pixel_range, data.face_part, "
            "data.align, data.face_crop or data.face_scale, so its embeddings are not comparable. Use the same --run "
            "or --pretrained and settings, or index into another file"
        )
    return gallery


def _network_digest(task: FaceInference[Face], model: Model[Face]) -> str:
    """A digest of everything that an embedding depends on besides the photo."""
    predictor, conventions = model.predictor, None  # of a network in an ONNX file: in its graph, or in its state
    if isinstance(predictor, TorchPredictor) and isinstance(predictor.network, FaceNet):
        network = predictor.network
        conventions = str(getattr(network.backbone, "conventions", None))  # FaceNet's has one kind
        embedder = nn.ModuleList([network.backbone, network.head.projection])  # without the class prototypes
        predictor = TorchPredictor(predictor.task, embedder)
    data = task.config.data
    settings: list[Any] = [conventions, data.input_size, data.face_part, data.align is not None]
    if data.align is not None and data.face_crop != "aligned":
        settings.append((data.face_crop, data.face_scale))
    if data.pixel_range is not None:
        settings.append(data.pixel_range)
    return predictor.digest(settings)[:32]


def _strictest_point(run: str | None) -> OperatingPoint | None:
    """The operating point with the lowest false accept rate that `evaluate` has written to the run, if any."""
    path = Path(run or "") / "evaluate-val" / RATES
    if run is None or not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8") as file:
            points = [
                OperatingPoint(
                    float(row["far"]), int(row["impostor_pairs"]), float(row["tar"]), float(row["threshold"])
                )
                for row in csv.DictReader(file)
            ]
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not a table as evaluate writes it; remove it and run evaluate again") from error
    return min((point for point in points if not math.isnan(point.threshold)), default=None)
