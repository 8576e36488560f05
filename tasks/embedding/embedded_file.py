"""Embeddings of photos in a file, until they are in a gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.files import atomic_write
from tasks.common.model.neighbours import Floats
from tasks.common.prediction.database import decode_name, encode_name
from tasks.embedding.gallery import Box
from tasks.embedding.photos import Embedded

SUFFIX = ".npz"
_DTYPES = {"paths": np.uint8, "photo_ids": np.int64, "boxes_xyxy": np.float64, "embeddings": np.float32}


@dataclass(frozen=True)
class EmbeddedFile:
    """What is in a file besides the embeddings.

    Attributes:
        path: of the file.
        paths: N, of photos; one after the other for the faces of a photo.
        photo_ids: (N,), see `Gallery`.
        boxes_xyxy: (N, 4), of faces; NaN without a face detector.
    """

    path: Path
    paths: list[str]
    photo_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]

    def box(self, row: int) -> Box | None:
        """The box of a face; None without a detector."""
        return None if np.isnan(self.boxes_xyxy[row, 0]) else tuple(self.boxes_xyxy[row].tolist())

    def read_embeddings(self) -> Floats:
        """The embeddings (N, D).

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        (embeddings,) = _read(self.path, "embeddings")
        if embeddings.shape[:1] != (len(self.paths),) or embeddings.ndim != 2:
            raise _damaged(self.path)
        return embeddings


class EmbeddedRows:
    """Some of the embeddings in a file, read with the file when they are needed."""

    def __init__(self, file: EmbeddedFile, rows: NDArray[np.int64], dim: int) -> None:
        """Args: file: the file; rows: by number; dim: of the embeddings."""
        self._file, self._rows, self._dim = file, rows, dim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> Floats:
        """Those from `start` to `stop`.

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        embeddings = self._file.read_embeddings()
        if embeddings.shape[1] != self._dim:
            raise _damaged(self._file.path)
        return embeddings[self._rows[rows]]


def embedded_files(folder: Path) -> list[Path]:
    """The files in a folder, in order; without hidden ones, which killed processes have begun."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def write_embedded(path: Path, embedded: Embedded, ids: Mapping[str, int]) -> None:
    """Write embeddings atomically. Args: path: of the file; embedded: photos; ids: of photos, before they were read."""
    no_box = (np.nan,) * 4
    with atomic_write(path) as temporary:
        np.savez(
            temporary,
            paths=np.frombuffer(b"\0".join(encode_name(entry.path) for entry in embedded.entries), np.uint8),
            photo_ids=np.array([ids[entry.path] for entry in embedded.entries], np.int64),
            boxes_xyxy=np.array([entry.face_box_xyxy or no_box for entry in embedded.entries], np.float64),
            embeddings=embedded.embeddings,
        )


def read_embedded(path: Path) -> EmbeddedFile:
    """What `write_embedded` wrote.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    names, photo_ids, boxes = _read(path, "paths", "photo_ids", "boxes_xyxy")
    try:
        paths = list(map(decode_name, names.tobytes().split(b"\0")))
    except UnicodeDecodeError as error:
        raise _damaged(path) from error
    if photo_ids.shape != (len(paths),) or boxes.shape != (len(paths), 4):
        raise _damaged(path)
    return EmbeddedFile(path, paths, photo_ids, boxes)


def _read(path: Path, *names: str) -> list[NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = [arrays[name] for name in names]  # bytes, where a damaged one is no array
    except Exception as error:  # of any type, when the file is no such archive
        raise _damaged(path) from error
    if any(
        not isinstance(array, np.ndarray) or array.dtype != _DTYPES[name]
        for name, array in zip(names, found, strict=True)
    ):
        raise _damaged(path)
    return found


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path}: damaged; remove it, and run index again to embed its photos anew")
