"""Photos to embeddings, and the gallery that they belong to: what `index` and `search` have in common."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from datasets.alignment import FaceCrop, prepare_faces
from datasets.face_detection import WhichFaces
from datasets.images.read import Decoding, UnreadableImageError
from datasets.loader import build_loader, ordered_batches
from datasets.progress import Progress
from datasets.sources import unreadable_example
from datasets.stores import ImageFiles
from datasets.types import DetectedFace, Example, Face, Unreadable
from datasets.words import plural
from tasks.common.evaluation.evaluate import TorchPredictor, readable_batches
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.face_inference import FaceInference
from tasks.common.inference_task import predict_all
from tasks.common.model.neighbours import Floats
from tasks.common.prediction.model import Model
from tasks.common.runtime.device import uses_cuda
from tasks.embedding.gallery import Entry, Gallery
from tasks.embedding.metric import stack_embeddings
from tasks.embedding.model import FaceNet

PHOTOS_AT_ONCE = 32


class Embedded(NamedTuple):
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


def embed_photos(
    task: FaceInference[Face],
    model: Model[Face],
    photos: Sequence[str],
    progress: Progress,
    unreadable: UnreadableImages,
) -> Embedded:
    """Embed photos; those that cannot be read, and those without a face, are named, counted and left out.

    Args:
        task: that the model solves.
        model: of the embeddings.
        photos: paths.
        progress: advanced with each photo.
        unreadable: records what is left out.

    Raises:
        ValueError: if more photos are unreadable than `loop.max_unreadable_fraction` allows.
    """
    config = task.config
    loader: Any = build_loader(
        _Faces(photos, task.decoding, task.face_crop, config.data.input_size, config.faces),
        ordered_batches(len(photos), PHOTOS_AT_ONCE),
        num_workers=config.loop.num_workers,
        pin_memory=uses_cuda(config.loop),
    )
    rows: list[int] = []
    predicted: list[Face] = []
    faces: list[DetectedFace | None] = []
    for batch in readable_batches(task, loader, unreadable):
        crops = list(batch.images.permute(0, 2, 3, 1).numpy())
        predicted += predict_all(model.predictor, crops)  # a photo may have a hundred faces
        faces += batch.truth
        rows += batch.rows
        progress.advance(len(set(batch.rows)) + len(batch.unreadable))
    entries = [Entry(photos[row], face and face.box_xyxy) for row, face in zip(rows, faces, strict=True)]
    return Embedded(entries, stack_embeddings(predicted), faces)


def report_left_out(task: FaceInference[Face], unreadable: UnreadableImages) -> None:
    """Say how many photos have no face that is wanted, if any."""
    if num_empty := unreadable.empty.num_images:
        reason = "not exactly one face found" if task.config.faces == "one" else "no face found"
        print(f"{plural(num_empty, 'photo')} of {unreadable.num_images} left out: {reason}", file=sys.stderr)


def unfinished_folders(gallery: Path) -> tuple[Path, Path]:
    """Where `index` has embeddings before they are in a gallery, and while they are added to it."""
    return gallery.with_suffix(".parts"), gallery.with_suffix(".joining")


def new_gallery(path: Path, task: FaceInference[Face], model: Model[Face]) -> Gallery:
    """An empty gallery for the embeddings of a model, not yet on disk."""
    side = task.config.data.input_size
    embeddings = stack_embeddings(model.predictor([np.zeros((side, side, 3), np.uint8)]))
    return Gallery.new(path, embeddings.shape[1], _network_digest(task, model))


def open_gallery(path: Path, task: FaceInference[Face], model: Model[Face]) -> Gallery:
    """A gallery from disk.

    Raises:
        ValueError: if it is damaged, or of another network or other settings.
    """
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
