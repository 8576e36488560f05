"""A searchable photo gallery: a faiss index on disk, and the list of its photos."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.files import remove_leftovers, write_json
from tasks.common.evaluation.report import write_csv
from tasks.common.model.neighbours import Floats, SimilarityIndex, Vectors

Box = tuple[float, ...]  # x0, y0, x1, y1
_CHECKSUM = "SHA-256 at the end of the index"
COLUMNS = ("id", "path", "x0", "y0", "x1", "y1")


class Match(NamedTuple):
    """A gallery photo that is similar to a query.

    Attributes:
        path: of the photo.
        similarity: cosine of the embeddings.
        face_box_xyxy: of the face that was embedded, in pixels of the photo; None without a face detector.
    """

    path: str
    similarity: float
    face_box_xyxy: Box | None = None


class Entry(NamedTuple):
    """A photo in the gallery, or one face of it.

    Attributes:
        path: of the photo.
        face_box_xyxy: of the face; None without a face detector.
    """

    path: str
    face_box_xyxy: Box | None = None


class Gallery:
    """Embedded photos or their faces; the id of a photo's first face is a hash of its path, size and time of change.

    `gallery.faiss` stores ids and vectors, `gallery.csv` ids, paths and boxes of faces, `gallery.json` the digest of
    the network and that the index ends in a checksum. A photo is in the gallery if both of the first two list its id.
    Each file is written atomically, and the index is replaced while the CSV lists both old and new photos. So a crash
    at any moment leaves the gallery as before the update or as after it.
    """

    def __init__(
        self,
        path: Path,
        index: SimilarityIndex,
        rows: Mapping[int, Entry],
        network: str,
        *,
        is_checked: bool = True,
    ) -> None:
        """A gallery in memory.

        Args:
            path: of the index.
            index: vectors.
            rows: by id, all in the index.
            network: its digest.
            is_checked: whether the index on disk has a checksum; those of earlier versions have none.
        """
        self.path, self._index, self._rows, self.network = path, index, dict(rows), network
        self._is_checked = is_checked

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
        try:
            about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            network, is_checked = about["network"], about.get("checksum") == _CHECKSUM
            with path.with_suffix(".csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = {int(row["id"]): Entry(row["path"], _read_box(row)) for row in csv.DictReader(file)}
            listed = np.array(list(rows), np.int64)
        except (
            OSError,
            LookupError,
            AttributeError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
            csv.Error,
        ) as error:
            names = f"{path.with_suffix('.csv').name} and {path.with_suffix('.json').name}"
            raise ValueError(f"{path}: {names}, which belong to it, cannot be read ({error})") from error
        index = SimilarityIndex.read(path, is_checked=is_checked)
        index.remove(np.setdiff1d(index.ids, listed))  # without a path
        known = set(index.ids.tolist())
        kept = {id_: row for id_, row in rows.items() if id_ in known}
        return cls(path, index, kept, network, is_checked=is_checked)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def kind(self) -> str:
        """The kind of index: flat, hnsw or ivfpq."""
        return self._index.kind

    @property
    def dim(self) -> int:
        """The dimension of the embeddings."""
        return self._index.dim

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of all photos and faces."""
        return np.array(list(self._rows), np.int64)

    def missing(self, photos: Sequence[str]) -> dict[str, int]:
        """The photos that are not in the gallery in their current version, with their ids."""
        return {photo: id_ for photo, id_ in photo_ids(photos).items() if id_ not in self._rows}

    def add(self, ids: Mapping[str, int], entries: Sequence[Entry], embeddings: Vectors) -> None:
        """Add photos or their faces, replacing older versions of the photos, and write the files.

        Args:
            ids: photo -> id, computed before it was read: if it has changed since, the next update finds it missing.
            entries: M, the faces of a photo one after the other.
            embeddings: (M, dim), read in slices.
        """
        before, new = self._rows, _by_id(ids, entries)
        replaced = {row.path for row in entries} if before else set()
        kept = {id_: row for id_, row in before.items() if row.path not in replaced}
        self._index.remove(np.array([id_ for id_ in before if id_ not in kept], np.int64))
        self._index.add(np.array(list(new), np.int64), embeddings)
        self._rows = kept | new if kept else new
        self._write(before)

    def remove(self, targets: Sequence[str]) -> int:
        """Remove photos, and all photos below folders, and write the files; returns how many photos were removed.

        Nothing of them is left: vectors are stored anew without theirs, and temporary files, in which an update that
        was killed may have left some, are removed, too. Those of updates that are running on this machine stay.
        """
        before = self._rows
        removed = {
            id_: row.path for id_, row in before.items() if any(_is_at_or_below(row.path, target) for target in targets)
        }
        self._index.remove(np.array(list(removed), np.int64))
        self._rows = {id_: row for id_, row in before.items() if id_ not in removed}
        self._write(before)
        for suffix in (self.path.suffix, ".csv", ".json"):
            remove_leftovers(self.path.with_suffix(suffix), min_age_s=-math.inf)  # clocks of servers differ
        return len(set(removed.values()))

    def search(self, embeddings: Floats, num_matches: int) -> list[list[Match]]:
        """The most similar photos for each of (N, dim) embeddings, best first.

        Raises:
            ValueError: naming the file, if it is damaged in a way that only the search finds out.
        """
        try:
            similarities, ids = self._index.search(embeddings, num_matches)
        except RuntimeError as error:
            raise ValueError(f"{self.path}: damaged: faiss cannot search it; make it anew with `index`") from error
        return [
            [self._match(id_, cosine) for cosine, id_ in zip(row, row_ids, strict=True) if id_ >= 0]
            for row, row_ids in zip(similarities.tolist(), ids.tolist(), strict=True)
        ]

    def _match(self, id_: int, cosine: float) -> Match:
        return Match(self._rows[id_].path, cosine, self._rows[id_].face_box_xyxy)

    def _write(self, before: Mapping[int, Entry]) -> None:
        """First the paths of old and new photos, then the vectors, then only the new paths."""
        about = {"network": self.network, "checksum": _CHECKSUM}
        if not self.path.exists():
            write_json(self.path.with_suffix(".json"), about)
        both = {**before, **self._rows} if before else self._rows
        if both != before or not self.path.exists():
            self._write_rows(both)
        self._index.write(self.path)
        if not self._is_checked:
            write_json(self.path.with_suffix(".json"), about)
            self._is_checked = True
        if both != self._rows:
            self._write_rows(self._rows)

    def _write_rows(self, entries: Mapping[int, Entry]) -> None:
        rows = (_as_row(id_, entry) for id_, entry in entries.items())
        write_csv(self.path.with_suffix(".csv"), rows, columns=COLUMNS)


def _by_id(ids: Mapping[str, int], entries: Sequence[Entry]) -> dict[int, Entry]:
    """The entries by their ids. Args: ids: of the photos; entries: the faces of a photo one after the other."""
    found: dict[int, Entry] = {}
    counts = Counter[str]()
    for row in entries:
        found[_id_of_face(ids[row.path], counts[row.path])] = row
        counts[row.path] += 1
    return found


def _as_row(id_: int, entry: Entry) -> dict[str, Any]:
    """A line of the CSV file."""
    box = entry.face_box_xyxy
    values = ("",) * 4 if box is None else [round(value, 1) for value in box]
    return dict(zip(COLUMNS, (id_, entry.path, *values), strict=True))


def _read_box(row: Mapping[str, str]) -> Box | None:
    """The box in a line of the CSV file; galleries of earlier versions have none."""
    return tuple(float(row[name]) for name in COLUMNS[2:]) if row.get("x0") else None


def photo_ids(photos: Sequence[str]) -> dict[str, int]:
    """Photo -> id of its current version."""
    return {photo: _photo_id(photo) for photo in photos}


def _photo_id(photo: str) -> int:
    """63 bits of a hash of path, size and modification time, so every version of a photo has its own id."""
    try:
        status = os.stat(photo)
        text = f"{photo}\0{status.st_size}\0{status.st_mtime_ns}"
    except OSError:  # gone since it was listed: it counts as unreadable when it is read
        text = photo
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()) >> 1


def _id_of_face(photo_id: int, number: int) -> int:
    """The id of a photo's face: the photo's own for number 0."""
    if number == 0:
        return photo_id
    return int.from_bytes(hashlib.blake2b(f"{photo_id} {number}".encode(), digest_size=8).digest()) >> 1


def _is_at_or_below(photo: str, target: str) -> bool:
    return photo == target or photo.startswith(target.rstrip(os.sep) + os.sep)
