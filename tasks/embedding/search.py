"""`python -m tasks.embedding index`, `search` and `remove`: a gallery of photos, and who in it is like somebody."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from datasets.faces import FaceImages
from datasets.files import atomic_write
from datasets.images import IMAGE_SUFFIXES, UnreadableImageError, read_image, write_image
from datasets.stores import ImageFiles
from datasets.types import Face, Image
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.onnx_file import ExportedNetwork
from tasks.common.drawing.draw import contact_sheet, put_label, scaled_to
from tasks.common.evaluation.evaluate import evaluation_loader, predict_batch, predict_pixels, readable_batches
from tasks.common.evaluation.features import network_digest
from tasks.common.evaluation.predict import find_files
from tasks.common.model.neighbours import Floats
from tasks.common.runs.folder import out_folder
from tasks.common.runs.load import load_model
from tasks.common.runtime.progress import Progress
from tasks.common.task import Task
from tasks.embedding.gallery import Gallery, Match

BATCH_SIZE = 32
NUM_WRITTEN_AT_ONCE = 50_000  # photos that a crash costs at most
SHEET, MATCHES = "matches.png", "matches.jsonl"
NUM_DRAWN = 12  # photos that were searched for
HEIGHT_PX, NAME_LENGTH = 200, 26  # of a drawn photo, and letters that fit below it
WHITE, GREEN = (255, 255, 255), (0, 158, 115)


def index(task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Add photos to a gallery."""
    options = arguments.options
    out = Path(options["out"])
    if out.suffix != ".faiss":
        raise ValueError(f"--out: expected a name that ends in .faiss, got {out}")
    photos = _photos(options["inputs"])
    task, model = load_model(task_class, arguments.config, options["run"])
    gallery = _open_gallery(out, task, model) if out.exists() else _new_gallery(out, task, model)
    new = gallery.missing(photos)
    with Progress("embedding", len(new)) as progress:
        for start in range(0, len(new), NUM_WRITTEN_AT_ONCE):
            names, embeddings = _embed(task, model, list(new)[start : start + NUM_WRITTEN_AT_ONCE], progress)
            if names:
                gallery.add({name: new[name] for name in names}, embeddings)
    print(f"{len(new)} photos are new or changed; {out} ({gallery.kind}) has {len(gallery)}", file=sys.stderr)
    return 0


def remove(_task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Remove photos from a gallery; their files may be gone."""
    gallery = Gallery.read(Path(arguments.options["gallery"]))
    number = gallery.remove([os.path.abspath(place) for place in arguments.options["inputs"]])
    print(f"removed {number} photos; {gallery.path} has {len(gallery)}", file=sys.stderr)
    return 0


def search(task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Find, write and draw the most similar photos."""
    options = arguments.options
    if options["num_matches"] < 1:
        raise ValueError(f"--num_matches: expected 1 or more, got {options['num_matches']}")
    queries = _photos(options["inputs"])
    task, model = load_model(task_class, arguments.config, options["run"])
    gallery = _open_gallery(Path(options["gallery"]), task, model)
    with Progress("embedding", len(queries)) as progress:
        names, embeddings = _embed(task, model, queries, progress)
    if not names:
        raise ValueError("none of the photos could be used")
    found = gallery.search(embeddings, options["num_matches"])
    folder = out_folder(task, "search", out=options["out"], run=options["run"])
    with atomic_write(folder / MATCHES) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, matches in zip(names, found, strict=True):
            file.write(json.dumps({"image": name, "matches": [match._asdict() for match in matches]}) + "\n")
            best = f"{matches[0].similarity:.3f} {matches[0].path}" if matches else "the gallery is empty"
            print(f"{name}: {best}")
    columns = options["num_matches"] + 1
    rows = [_draw_row(name, matches, columns) for name, matches in zip(names[:NUM_DRAWN], found, strict=False)]
    write_image(folder / SHEET, contact_sheet([tile for row in rows for tile in row], columns))
    print(f"wrote {SHEET} and {MATCHES} to {folder}", file=sys.stderr)
    return 0


def _photos(inputs: Sequence[str]) -> list[str]:
    """Absolute paths of the images among files, folders and globs, each once."""
    found = (os.path.abspath(path) for path in find_files(inputs) if path.suffix.lower() in IMAGE_SUFFIXES)
    return list(dict.fromkeys(found))


def _embed(task: Task[Face], model: Any, photos: Sequence[str], progress: Progress) -> tuple[list[str], Floats]:
    """The photos that could be used, and an embedding of each."""
    source = FaceImages(ImageFiles(Path("/"), photos), [""] * len(photos), range(len(photos)))
    rows: list[int] = []
    faces: list[Face] = []
    for batch in readable_batches(task, evaluation_loader(task, source, BATCH_SIZE)):
        if len(batch):
            faces += predict_batch(task, model, batch.images)
        rows += batch.rows
        progress.advance(len(batch))
    embeddings = [face.embedding for face in faces if face.embedding is not None]
    return [photos[row] for row in rows], np.stack(embeddings) if embeddings else np.zeros((0, 1), np.float32)


def _new_gallery(path: Path, task: Task[Face], model: Any) -> Gallery:
    side = task.config.data.input_size
    (face,) = predict_pixels(task, model, [np.zeros((side, side, 3), np.uint8)])
    assert face.embedding is not None
    return Gallery.new(path, len(face.embedding), _network(task, model))


def _open_gallery(path: Path, task: Task[Face], model: Any) -> Gallery:
    gallery = Gallery.read(path)
    if gallery.network != _network(task, model):
        raise ValueError(
            f"{path}: was made with another network, or another data.input_size, data.face_part or data.align; its "
            "embeddings do not compare with these. Give the same --run and settings, or index into another file"
        )
    return gallery


def _network(task: Task[Face], model: Any) -> str:
    """Stands for all that an embedding depends on besides the photo."""
    embedder: nn.Module = model
    conventions = None  # an exported network has its own
    if not isinstance(model, ExportedNetwork):
        embedder = nn.ModuleList([model.backbone, model.head.projection])  # not what only training needs
        conventions = str(model.backbone.conventions)
    data = task.config.data
    settings = [conventions, data.input_size, data.face_part, data.align is not None]
    return network_digest(embedder, settings).hexdigest()[:32]


def _draw_row(name: str, matches: Sequence[Match], columns: int) -> list[Image]:
    """The photo, and what is most like it; white where there is nothing more."""
    query = scaled_to(read_image(Path(name)), HEIGHT_PX)
    put_label(query, Path(name).name, 0, 0, GREEN)
    tiles = [query]
    for match in matches:
        try:
            tile = scaled_to(read_image(Path(match.path)), HEIGHT_PX)
        except UnreadableImageError:  # it is gone since it was indexed
            tile = np.full((HEIGHT_PX, HEIGHT_PX, 3), 127, np.uint8)
        put_label(tile, f"{match.similarity:.3f}", 0, 0, WHITE)
        put_label(tile, Path(match.path).name[-NAME_LENGTH:], 0, HEIGHT_PX, WHITE)
        tiles.append(tile)
    return tiles + [np.full((HEIGHT_PX, HEIGHT_PX, 3), 255, np.uint8)] * (columns - len(tiles))
