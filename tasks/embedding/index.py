"""`python -m tasks.embedding index`: photos into a gallery, by one process or several.

Each process writes its embeddings to files in the folder GALLERY.parts; the last one to end adds all to the gallery and
removes the folder. So memory does not grow with the photos before that, and a process that was killed goes on behind
its last file.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.files import OtherProcessError, only_process, read_json, write_json
from datasets.progress import Progress
from datasets.types import Face
from datasets.words import plural, some
from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.face_task import FaceTask
from tasks.common.model.neighbours import JoinedVectors
from tasks.common.prediction.find import find_images
from tasks.common.prediction.model import Model
from tasks.common.prediction.open import load_model
from tasks.common.prediction.parts import COMPLETE, UNFINISHED, Parts
from tasks.common.prediction.source_list import SourceList
from tasks.common.runtime.launch import process_rank
from tasks.embedding.embedded_file import (
    SUFFIX,
    EmbeddedFile,
    EmbeddedRows,
    embedded_files,
    read_embedded,
    write_embedded,
)
from tasks.embedding.gallery import Entry, Gallery, photo_ids
from tasks.embedding.photos import embed_photos, new_gallery, open_gallery, report_left_out, unfinished_folders

PHOTOS_PER_FILE = 5000  # embedded again at most after a crash
NUM_NEW = "num_new"


def index(task_class: type[FaceTask[Face]], arguments: Arguments) -> int:
    """Add photos to a gallery."""
    options = arguments.options
    out = Path(options["out"])
    if out.suffix != ".faiss":
        raise ValueError(f"--out: expected a file name ending in .faiss, got {out}")
    rank, size = process_rank()
    photos = find_images(options["inputs"])
    model = load_model(task_class.name, arguments.config, options["run"], arguments.given)
    out.parent.mkdir(parents=True, exist_ok=True)
    with only_process(out if size == 1 else out.with_name(f"{out.stem}-{rank}{out.suffix}"), "--out"):
        return _index(photos, out, model, rank, size)


def _index(photos: SourceList, out: Path, model: Model[Face], rank: int, size: int) -> int:
    """Add photos to a gallery, or a process's part of them; returns the exit status."""
    folder, joining = unfinished_folders(out)
    if joining.exists():
        with _alone(out, size):
            if joining.exists() and not folder.exists():  # killed in the middle of it
                joining.rename(folder)
    parts = Parts(folder, rank, size)
    task: Any = model.task
    version = _version(out)
    gallery = open_gallery(out, task, model) if out.exists() else new_gallery(out, task, model)
    dim, network, known = gallery.dim, gallery.network, gallery.ids
    del gallery  # its vectors need memory
    origin = {"digest": network} | ({} if size == 1 else {"inputs": photos.describe()})
    parts.check(origin)
    if size == 1 or not parts.is_complete:
        _embed_part(photos.part(rank, size), known, parts, origin, task, model)
    if _version(out) != version:
        known = open_gallery(out, task, model).ids
    known_parts = _known_parts(photos, parts, known) if folder.exists() else []
    try:
        with _alone(out, size):
            if not folder.exists():
                print(f"this process has nothing to add to {out}", file=sys.stderr)
                return 0
            to_come = [name for name in parts.incomplete if name not in known_parts or (folder / name).exists()]
            if to_come:
                advice = f"; if no other process is running, remove {folder}, which has no photos"
                if any(map(embedded_files, parts.paths)):
                    advice = ""
                print(f"{some(to_come, 'part')} to come; the last one writes {out}{advice}", file=sys.stderr)
                return 0
            parts.check(origin)
            folder.rename(joining)
            gallery = open_gallery(out, task, model) if out.exists() else Gallery.new(out, dim, network)
            num_new, num_faces = _join(gallery, joining)
            shutil.rmtree(joining)
    except OtherProcessError:
        if folder.exists():  # the other one does something else with the gallery
            raise
        print(f"another process writes {out}", file=sys.stderr)
        return 0
    counted = "" if task.config.data.align is None else f", {plural(num_faces, 'face')} in them"
    print(
        f"{plural(num_new, 'photo')} new or changed{counted}; {out} ({gallery.kind}) has {len(gallery)}",
        file=sys.stderr,
    )
    return 0


def _alone(out: Path, size: int) -> AbstractContextManager[None]:
    """Keep other processes from changing the gallery; one by itself does so all the time."""
    return nullcontext() if size == 1 else only_process(out, "--out")


def _version(path: Path) -> tuple[int, int] | None:
    """By which a file that was written anew is known; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino


def _embed_part(
    photos: SourceList,
    known: NDArray[np.int64],
    parts: Parts,
    origin: Mapping[str, Any],
    task: Any,
    model: Model[Face],
) -> None:
    """Embed the photos that are neither known nor in the files of the part, and mark the part as complete.

    One of several processes that has nothing new leaves nothing: the others see this (`_known_parts`), and it may have
    been started again after they have joined the parts.
    """
    folder = parts.own
    written = [np.unique(read_embedded(path).photo_ids) for path in embedded_files(folder)]
    done, num_files, num_new = np.concatenate([known, *written]), len(written), sum(map(len, written))
    if num_new:
        print(f"going on after {plural(num_new, 'photo')} in {folder}", file=sys.stderr)
    unreadable = UnreadableImages(len(photos), task.config.loop.max_unreadable_fraction)
    with Progress("embedding", len(photos)) as progress:
        for paths in _in_chunks(photos):
            ids = photo_ids(paths)
            is_done = np.isin(np.array(list(ids.values()), np.int64), done)
            new = {photo: id_ for (photo, id_), skip in zip(ids.items(), is_done, strict=True) if not skip}
            progress.advance(len(paths) - len(new))
            if not new:
                continue
            num_new += len(new)
            embedded = embed_photos(task, model, list(new), progress, unreadable)
            if embedded.entries:
                folder.mkdir(parents=True, exist_ok=True)
                if not (folder / UNFINISHED).exists():
                    write_json(folder / UNFINISHED, origin)
                num_files += 1
                write_embedded(folder / f"{num_files:06}{SUFFIX}", embedded, new)
    report_left_out(task, unreadable)
    if num_new or len(parts.paths) == 1:
        write_json(folder / COMPLETE, dict(origin) | {NUM_NEW: num_new})
        (folder / UNFINISHED).unlink(missing_ok=True)


def _known_parts(photos: SourceList, parts: Parts, known: NDArray[np.int64]) -> list[str]:
    """The names of the parts that have nothing new, as far as they have not begun: all of their photos are known."""

    def is_known(rank: int) -> bool:
        chunks = _in_chunks(photos.part(rank, len(parts.paths)))
        return all(np.isin(list(photo_ids(paths).values()), known).all() for paths in chunks)

    return [part.name for rank, part in enumerate(parts.paths) if not part.exists() and is_known(rank)]


def _in_chunks(photos: SourceList) -> Iterator[list[str]]:
    """Absolute paths, so many at a time."""
    paths = (os.path.abspath(photo.name) for photo in photos)
    while chunk := list(islice(paths, PHOTOS_PER_FILE)):
        yield chunk


def _join(gallery: Gallery, folder: Path) -> tuple[int, int]:
    """Add what is embedded in the parts of a folder to the gallery; returns the number of new photos and of faces.

    Photos that are in the gallery stay as they are: it was written before, and the folder could not be removed.
    """
    parts = sorted(path.parent for path in folder.glob(f"*/{COMPLETE}"))
    num_new = sum(read_json(part / COMPLETE, "what index wrote; remove the folder")[NUM_NEW] for part in parts)
    files = [read_embedded(path) for part in parts for path in embedded_files(part)]  # without the embeddings
    ids: dict[str, int] = {}
    entries: list[Entry] = []
    embeddings: list[EmbeddedRows] = []
    for file, rows in zip(files, _newest_rows(files, gallery.ids), strict=True):
        embeddings.append(EmbeddedRows(file, rows, gallery.dim))
        for row in rows.tolist():
            ids[file.paths[row]] = int(file.photo_ids[row])
            entries.append(Entry(file.paths[row], file.box(row)))
    if entries or not gallery.path.exists():
        gallery.add(ids, entries, JoinedVectors(embeddings))
    return num_new, len(entries)


def _newest_rows(files: Sequence[EmbeddedFile], known: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each file whose photos are neither known nor in a later file, where they are in another version."""
    newest: dict[str, int] = {}
    for number, file in enumerate(files):
        for path, is_known in zip(file.paths, np.isin(file.photo_ids, known), strict=True):
            if not is_known:
                newest[path] = number
    return [np.flatnonzero([newest.get(path) == number for path in file.paths]) for number, file in enumerate(files)]
