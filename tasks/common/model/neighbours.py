"""Nearest-neighbour search by cosine similarity: a faiss index whose type depends on its size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from datasets.files import atomic_write

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Kind = Literal["flat", "hnsw", "ivfpq"]
MAX_SIZES: dict[Kind, float] = {"flat": 50_000, "hnsw": 100_000, "ivfpq": math.inf}
HNSW_LINKS, HNSW_BREADTH_BUILD, HNSW_BREADTH_SEARCH = 16, 60, 96
TRAINING_VECTORS_PER_LIST = 50
PROBED_FRACTION = 0.25  # of the lists, searched for a query
REFINE_FACTOR = 10  # exact comparison of this many candidates per requested neighbour
_CHUNK_BYTES = 2**20
_ROWS_AT_ONCE = 16_384  # of vectors that are added


def choose_kind(size: int) -> Kind:
    """The index type for that many vectors: exact search, HNSW, or IVF-PQ with exact re-ranking."""
    return next(kind for kind, max_size in MAX_SIZES.items() if size <= max_size)


class Vectors(Protocol):
    """Rows (N, D) that are read in slices: an array, or what is not in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Floats: ...


class JoinedVectors:
    """The vectors of several sources, one after the other."""

    def __init__(self, sources: Sequence[Vectors]) -> None:
        """Args: sources: all of the same dimension."""
        self._sources = sources
        self._ends = np.cumsum([0, *map(len, sources)]).tolist()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: slice) -> Floats:
        """The rows from `start` to `stop`."""
        start, stop, _ = rows.indices(len(self))
        return np.concatenate(
            [
                source[max(start - first, 0) : stop - first]
                for source, first, end in zip(self._sources, self._ends, self._ends[1:], strict=False)
                if first < stop and start < end
            ]
        )


class SimilarityIndex:
    """Unit vectors with unique ids, searched by cosine similarity.

    All kinds store the full vectors: an index that grows is rebuilt as the next kind, and one that vectors are removed
    from is rebuilt without them, so that nothing of a removed vector is left.
    """

    def __init__(self, dim: int) -> None:
        """An empty index. Args: dim: dimension of the vectors."""
        self.dim = dim
        self.kind: Kind = "flat"
        self._index: Any = faiss.IndexIDMap2(_build(self.kind, dim, 0))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def ids(self) -> Ids:
        """The ids of all vectors."""
        ids: Ids = faiss.vector_to_array(self._index.id_map).astype(np.int64)
        return ids

    def vectors(self) -> Floats:
        """All vectors, in the order of `ids`."""
        return self._stored(np.arange(len(self)))[:]

    def _stored(self, rows: Ids) -> _StoredVectors:
        return _StoredVectors(self._index, _flat(self._index, self.kind), rows)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add unit vectors (M, dim) with new ids (M,); no more of them are in memory at once than need be."""
        if self._is_suitable(len(self) + len(ids)):
            self._append(ids, vectors)
        else:
            stored = self._stored(np.arange(len(self)))
            self._rebuild(np.concatenate([self.ids, ids]), JoinedVectors([stored, vectors]))

    def remove(self, ids: Ids) -> None:
        """Remove the vectors of these ids; unknown ids are ignored."""
        keep = ~np.isin(self.ids, ids)
        if not keep.all():
            self._rebuild(self.ids[keep], self._stored(np.flatnonzero(keep)))

    def search(self, queries: Floats, num_neighbours: int) -> tuple[Floats, Ids]:
        """The most similar vectors of each query, best first.

        Args:
            queries: unit vectors (N, dim).
            num_neighbours: K, or the size of the index if that is smaller.

        Returns:
            Cosine similarities (N, K) and ids (N, K).
        """
        k = min(num_neighbours, len(self))
        if k == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        similarities, ids = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return similarities, ids

    def write(self, path: Path) -> None:
        """Write the index atomically; `faiss.read_index` can read the file, whose last 32 bytes are a SHA-256."""
        with atomic_write(path) as temporary:
            faiss.write_index(self._index, str(temporary))
            with temporary.open("rb+") as file:
                file.write(hashlib.file_digest(file, "sha256").digest())

    @classmethod
    def read(cls, path: Path, *, is_checked: bool = True) -> SimilarityIndex:
        """Load what `write` wrote.

        Args:
            path: of the file.
            is_checked: whether it ends in its SHA-256. faiss crashes on some damaged files.

        Raises:
            ValueError: if the file is damaged or another kind of index.
        """
        if is_checked and not _is_whole(path):
            raise ValueError(f"{path}: not an index that faiss can read; it is damaged or incomplete")
        limit = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(path.stat().st_size)  # no part is larger than the file
        try:
            stored = faiss.read_index(str(path))
        except (RuntimeError, MemoryError) as error:
            raise ValueError(f"{path}: not an index that faiss can read; it may be damaged") from error
        finally:
            faiss.set_deserialization_vector_byte_limit(limit)
        return cls._of(stored, str(path))

    @classmethod
    def _of(cls, stored: Any, name: str) -> SimilarityIndex:
        if not isinstance(stored, faiss.IndexIDMap2):
            raise ValueError(f"{name}: an index of another program; make a new one")
        index = cls(stored.d)
        index._index = stored
        inner = faiss.downcast_index(stored.index)
        if (inner.d, inner.ntotal, stored.id_map.size()) != (stored.d, stored.ntotal, stored.ntotal):
            raise ValueError(f"{name}: damaged: its parts are of different sizes; make a new one")
        if not isinstance(inner, faiss.IndexFlat):
            index.kind = "hnsw" if isinstance(inner, faiss.IndexHNSW) else "ivfpq"
        _tune(index.kind, inner)
        return index

    def _is_suitable(self, size: int) -> bool:
        """Whether a new index of that size would have this kind and as many lists."""
        if self.kind == "ivfpq" and faiss.extract_index_ivf(self._index.index).nlist < _num_lists(size):
            return False
        return choose_kind(size) == self.kind

    def _rebuild(self, ids: Ids, vectors: Vectors) -> None:
        self.kind = choose_kind(len(ids))
        inner = _build(self.kind, self.dim, len(ids))
        if not inner.is_trained:
            num_training = min(len(ids), TRAINING_VECTORS_PER_LIST * _num_lists(len(ids)))
            inner.train(_take(vectors, np.random.default_rng(0).permutation(len(ids))[:num_training], self.dim))
        self._index = faiss.IndexIDMap2(inner)
        self._append(ids, vectors)

    def _append(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors in pieces; HNSW's all at once, since its links depend on how many come together."""
        codes, num_bytes = _flat(self._index, self.kind).codes, 4 * self.dim
        codes.resize(num_bytes * (len(self) + len(ids)))  # makes room once; growing would copy again and again
        codes.resize(num_bytes * len(self))
        step = max(1, len(ids)) if self.kind == "hnsw" else _ROWS_AT_ONCE
        for first in range(0, len(ids), step):
            piece = np.ascontiguousarray(vectors[first : first + step], np.float32)
            self._index.add_with_ids(piece, np.ascontiguousarray(ids[first : first + step]))


class _StoredVectors:
    """Some of the vectors in an index of faiss, which may be replaced meanwhile."""

    def __init__(self, owner: Any, flat: Any, rows: Ids) -> None:
        """Args: owner: of their memory; flat: its index that stores them; rows: by number."""
        self._owner, self._flat, self._rows = owner, flat, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> Floats:
        vectors: Floats = self._flat.reconstruct_batch(self._rows[rows])
        return vectors


def _flat(index: Any, kind: Kind) -> Any:
    """The index within one of any kind that stores the full vectors."""
    inner: Any = faiss.downcast_index(index.index)
    if kind == "flat":
        return inner
    return faiss.downcast_index(inner.storage if kind == "hnsw" else inner.refine_index)


def _take(vectors: Vectors, rows: Ids, dim: int) -> Floats:
    """Some of the vectors, in the order of their rows (M,)."""
    taken = np.empty((len(rows), dim), np.float32)
    for first in range(0, len(vectors), _ROWS_AT_ONCE):
        piece = vectors[first : first + _ROWS_AT_ONCE]
        is_inside = (first <= rows) & (rows < first + len(piece))
        taken[is_inside] = piece[rows[is_inside] - first]
    return taken


def _is_whole(path: Path) -> bool:
    """Whether a file ends in the SHA-256 of what is before."""
    remaining, digest = path.stat().st_size - hashlib.sha256().digest_size, hashlib.sha256()
    with path.open("rb") as file:
        while remaining > 0 and (part := file.read(min(remaining, _CHUNK_BYTES))):
            digest.update(part)
            remaining -= len(part)
        return file.read() == digest.digest()


def _build(kind: Kind, dim: int, size: int) -> Any:
    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_BREADTH_BUILD
    else:
        # As many sub-quantisers as divide the vector evenly, each of two dimensions or more.
        num_codes = next(count for count in range(max(1, dim // 2), 0, -1) if dim % count == 0)
        coding = f"PQ{num_codes}x4fs" if 4 * num_codes >= dim else "SQ8"
        text = f"IVF{_num_lists(size)},{coding},RFlat"
        index = faiss.index_factory(dim, text, faiss.METRIC_INNER_PRODUCT)
    _tune(kind, index)
    return index


def _tune(kind: Kind, index: Any) -> None:
    """Set the search parameters to today's constants, whichever version wrote the index."""
    if kind == "hnsw":
        index.hnsw.efSearch = HNSW_BREADTH_SEARCH
    elif kind == "ivfpq":
        index.k_factor = REFINE_FACTOR
        lists = faiss.extract_index_ivf(index)
        lists.nprobe = max(1, round(PROBED_FRACTION * lists.nlist))


def _num_lists(size: int) -> int:
    """A power of two near sqrt(size)."""
    return int(2 ** round(math.log2(math.sqrt(max(size, 1)))))
