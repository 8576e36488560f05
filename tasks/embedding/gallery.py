"""Photos that can be searched: a faiss index on disk, and beside it which photos it has."""

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
    """A photo of the gallery that is like another one.

    Attributes:
        path: of the photo.
        similarity: cosine of the embeddings.
    """

    path: str
    similarity: float


class Gallery:
    """Embedded photos, each with an id that is a function of its path, size and time of change.

    `gallery.faiss` has ids and vectors, `gallery.csv` ids and paths, `gallery.json` which network the vectors are of.
    A photo is in the gallery if it is in both of the first two. Each file is written whole or not at all, and while the
    vectors change the names are those of old and new photos: so whatever moment a process is killed at, the gallery is
    what it was before the update or what it is after it.
    """

    def __init__(self, path: Path, index: SimilarityIndex, paths: Mapping[int, str], network: str) -> None:
        """Args: path: of the index; index: vectors; paths: id -> photo, all of them in the index; network: whose."""
        self.path, self._index, self._paths, self.network = path, index, dict(paths), network

    @classmethod
    def new(cls, path: Path, dim: int, network: str) -> Gallery:
        """An empty one, which is not written yet."""
        return cls(path, SimilarityIndex(dim), {}, network)

    @classmethod
    def read(cls, path: Path) -> Gallery:
        """One that was written.

        Raises:
            ValueError: naming the file: not there or damaged.
        """
        if not path.is_file():
            raise ValueError(f"{path}: there is no such gallery; `index FOLDER --out {path}` makes one")
        index = SimilarityIndex.read(path)
        try:
            with path.with_suffix(".csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                paths = {int(row["id"]): row["path"] for row in csv.DictReader(file)}
            network = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["network"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            beside = f"{path.with_suffix('.csv').name} and {path.with_suffix('.json').name}"
            raise ValueError(f"{path}: {beside}, which belong beside it, cannot be read ({error})") from error
        index.remove(np.setdiff1d(index.ids, np.array(list(paths), np.int64)))  # whose name nobody knows
        known = set(index.ids.tolist())
        return cls(path, index, {id_: photo for id_, photo in paths.items() if id_ in known}, network)

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def kind(self) -> str:
        """Of the index: flat, hnsw or ivfpq."""
        return self._index.kind

    def missing(self, photos: Sequence[str]) -> dict[str, int]:
        """Those that are not in it as they are now, with their ids."""
        return {photo: id_ for photo, id_ in photo_ids(photos).items() if id_ not in self._paths}

    def add(self, ids: Mapping[str, int], embeddings: Floats) -> None:
        """Add photos with embeddings (M, dim), in place of older versions of theirs, and write the files.

        Args:
            ids: photo -> id, taken before it was read: if it has changed since, the next update finds it missing.
            embeddings: in the same order.
        """
        before = self._paths
        replaced = [id_ for id_, photo in before.items() if photo in ids]
        self._index.remove(np.array(replaced, np.int64))
        self._index.add(np.array(list(ids.values()), np.int64), embeddings)
        kept = {id_: photo for id_, photo in before.items() if photo not in ids}
        self._paths = kept | {id_: photo for photo, id_ in ids.items()}
        self._write(before)

    def remove(self, below: Sequence[str]) -> int:
        """Remove photos, and those below folders, and write the files; returns how many there were."""
        before = self._paths
        gone = {id_ for id_, photo in before.items() if any(_is_at_or_below(photo, place) for place in below)}
        self._index.remove(np.array(list(gone), np.int64))
        self._paths = {id_: photo for id_, photo in before.items() if id_ not in gone}
        self._write(before)
        return len(gone)

    def search(self, embeddings: Floats, num_matches: int) -> list[list[Match]]:
        """The most similar photos for each of (N, dim) embeddings, the best first."""
        similarities, ids = self._index.search(embeddings, num_matches)
        return [
            [Match(self._paths[id_], s) for s, id_ in zip(row, row_ids, strict=True) if id_ >= 0]
            for row, row_ids in zip(similarities.tolist(), ids.tolist(), strict=True)
        ]

    def _write(self, before: Mapping[int, str]) -> None:
        """First the names of old and new photos, then the vectors, then the names of the new ones alone."""
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
    """Photo -> its id as it is now."""
    return {photo: _photo_id(photo) for photo in photos}


def _photo_id(photo: str) -> int:
    """63 bits of a hash of path, size and time of change: another photo, or another version, has another id."""
    status = os.stat(photo)
    text = f"{photo}\0{status.st_size}\0{status.st_mtime_ns}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()) >> 1


def _is_at_or_below(photo: str, place: str) -> bool:
    return photo == place or photo.startswith(place.rstrip(os.sep) + os.sep)
