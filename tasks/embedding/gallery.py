"""A searchable photo gallery: a faiss index on disk, and the list of its photos."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.files import write_json
from tasks.common.evaluation.report import write_csv
from tasks.common.model.neighbours import Floats, SimilarityIndex


class Match(NamedTuple):
    """A gallery photo that is similar to a query.

    Attributes:
        path: of the photo.
        similarity: cosine of the embeddings.
    """

    path: str
    similarity: float


class Gallery:
    """Embedded photos; a photo's id is a hash of its path, size and modification time.

    `gallery.faiss` stores ids and vectors, `gallery.csv` ids and paths, `gallery.json` the digest of the network. A
    photo is in the gallery if both of the first two list its id. Each file is written atomically, and the index is
    replaced while the CSV lists both old and new photos. So a crash at any moment leaves the gallery as before the
    update or as after it.
    """

    def __init__(self, path: Path, index: SimilarityIndex, paths: Mapping[int, str], network: str) -> None:
        """Args: path: of the index; index: vectors; paths: id -> photo, all in the index; network: its digest."""
        self.path, self._index, self._paths, self.network = path, index, dict(paths), network

    @classmethod
    def new(cls, path: Path, dim: int, network: str) -> Gallery:
        """An empty gallery, not yet on disk."""
        return cls(path, SimilarityIndex(dim), {}, network)

    @classmethod
    def read(cls, path: Path) -> Gallery:
        """A gallery from disk.

        Raises:
            ValueError: naming the file, if it is missing or damaged.
        """
        if not path.is_file():
            raise ValueError(f"{path}: no such gallery; create it with `index FOLDER --out {path}`")
        index = SimilarityIndex.read(path)
        try:
            with path.with_suffix(".csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                paths = {int(row["id"]): row["path"] for row in csv.DictReader(file)}
            network = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["network"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            names = f"{path.with_suffix('.csv').name} and {path.with_suffix('.json').name}"
            raise ValueError(f"{path}: {names}, which belong to it, cannot be read ({error})") from error
        index.remove(np.setdiff1d(index.ids, np.array(list(paths), np.int64)))  # without a path
        known = set(index.ids.tolist())
        return cls(path, index, {id_: photo for id_, photo in paths.items() if id_ in known}, network)

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def kind(self) -> str:
        """The kind of index: flat, hnsw or ivfpq."""
        return self._index.kind

    def missing(self, photos: Sequence[str]) -> dict[str, int]:
        """The photos that are not in the gallery in their current version, with their ids."""
        return {photo: id_ for photo, id_ in photo_ids(photos).items() if id_ not in self._paths}

    def add(self, ids: Mapping[str, int], embeddings: Floats) -> None:
        """Add photos with embeddings (M, dim), replacing older versions, and write the files.

        Args:
            ids: photo -> id, computed before it was read: if it has changed since, the next update finds it missing.
            embeddings: in the same order.
        """
        before = self._paths
        replaced = [id_ for id_, photo in before.items() if photo in ids]
        self._index.remove(np.array(replaced, np.int64))
        self._index.add(np.array(list(ids.values()), np.int64), embeddings)
        kept = {id_: photo for id_, photo in before.items() if photo not in ids}
        self._paths = kept | {id_: photo for photo, id_ in ids.items()}
        self._write(before)

    def remove(self, targets: Sequence[str]) -> int:
        """Remove photos, and all photos below folders, and write the files; returns how many were removed."""
        before = self._paths
        removed = {id_ for id_, photo in before.items() if any(_is_at_or_below(photo, target) for target in targets)}
        self._index.remove(np.array(list(removed), np.int64))
        self._paths = {id_: photo for id_, photo in before.items() if id_ not in removed}
        self._write(before)
        return len(removed)

    def search(self, embeddings: Floats, num_matches: int) -> list[list[Match]]:
        """The most similar photos for each of (N, dim) embeddings, best first."""
        similarities, ids = self._index.search(embeddings, num_matches)
        return [
            [Match(self._paths[id_], cosine) for cosine, id_ in zip(row, row_ids, strict=True) if id_ >= 0]
            for row, row_ids in zip(similarities.tolist(), ids.tolist(), strict=True)
        ]

    def _write(self, before: Mapping[int, str]) -> None:
        """First the paths of old and new photos, then the vectors, then only the new paths."""
        if not self.path.exists():
            write_json(self.path.with_suffix(".json"), {"network": self.network})
        both = {**before, **self._paths}
        if both != before or not self.path.exists():
            self._write_paths(both)
        self._index.write(self.path)
        if both != self._paths:
            self._write_paths(self._paths)

    def _write_paths(self, paths: Mapping[int, str]) -> None:
        rows = [{"id": id_, "path": photo} for id_, photo in paths.items()]
        write_csv(self.path.with_suffix(".csv"), rows, columns=("id", "path"))


def photo_ids(photos: Sequence[str]) -> dict[str, int]:
    """Photo -> id of its current version."""
    return {photo: _photo_id(photo) for photo in photos}


def _photo_id(photo: str) -> int:
    """63 bits of a hash of path, size and modification time, so every version of a photo has its own id."""
    status = os.stat(photo)
    text = f"{photo}\0{status.st_size}\0{status.st_mtime_ns}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()) >> 1


def _is_at_or_below(photo: str, target: str) -> bool:
    return photo == target or photo.startswith(target.rstrip(os.sep) + os.sep)
