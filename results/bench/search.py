"""Queries to a gallery of embeddings: compared with faiss's exact search.

The embeddings are generated: identities at random on the sphere, ten photos around each, and queries that are one more
photo of some identities. With the speed come the times to build and change the index, its size and its recall.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.bench.measure import Comparison, Details, Timing, Workload, peak_memory_mb, time_calls

Floats = NDArray[np.float32]
DIM, PHOTOS_PER_IDENTITY, NUM_QUERIES, NUM_NEIGHBOURS = 128, 10, 500, 10
SPREAD = 0.9  # of an identity's photos, as a multiple of its vector's length: gives cosines of about 0.55


def _measure(implementation: str, workload: Workload) -> Timing:
    import faiss

    vectors, queries = embeddings(workload.size)
    exact = faiss.IndexFlatIP(DIM)
    if implementation == "ours":
        index, details = _build_index(vectors, queries)
        steps = time_calls(lambda: index.search(queries, NUM_NEIGHBOURS), workload)
        exact.add(vectors)
        details |= _recall(exact.search(queries, NUM_NEIGHBOURS)[1], index.search(queries, NUM_NEIGHBOURS)[1])
    else:
        exact.add(vectors)
        steps, details = time_calls(lambda: exact.search(queries, NUM_NEIGHBOURS), workload), {}
    return Timing(NUM_QUERIES, steps, details)


def embeddings(size: int) -> tuple[Floats, Floats]:
    """Photos (size, DIM) and queries (NUM_QUERIES, DIM), of length 1."""
    rng = np.random.default_rng(0)
    identities = _unit(rng.standard_normal((-(-size // PHOTOS_PER_IDENTITY), DIM), dtype=np.float32))
    photos = _photos(np.resize(np.arange(len(identities)), size), identities, rng)
    return photos, _photos(rng.integers(len(identities), size=NUM_QUERIES), identities, rng)


def _photos(identity_ids: NDArray[np.int64], identities: Floats, rng: np.random.Generator) -> Floats:
    noise = rng.standard_normal((len(identity_ids), DIM), dtype=np.float32) * np.float32(SPREAD / DIM**0.5)
    return _unit(identities[identity_ids] + noise)


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _build_index(vectors: Floats, queries: Floats) -> tuple[Any, dict[str, float | str]]:
    """Our index of the photos, and what it takes to build, change, write and read it."""
    from tasks.common.model.neighbours import SimilarityIndex

    index, ids = SimilarityIndex(DIM), np.arange(len(vectors) + len(queries))
    old, new = ids[: len(vectors)], ids[len(vectors) :]
    details: dict[str, float | str] = {"build_s": _seconds(lambda: index.add(old, vectors))}
    details |= {"kind": index.kind, "vectors_mb": vectors.nbytes / 1e6, "peak_memory_mb": peak_memory_mb()}
    details[f"add_{len(new)}_s"] = _seconds(lambda: index.add(new, queries))
    details[f"remove_{len(new)}_s"] = _seconds(lambda: index.remove(new))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.faiss"
        details["write_s"] = _seconds(lambda: index.write(path))
        details["read_s"] = _seconds(lambda: SimilarityIndex.read(path))
        details["file_mb"] = path.stat().st_size / 1e6
    return index, details


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _recall(expected: NDArray[np.int64], found: NDArray[np.int64]) -> Details:
    """How many of the nearest photos are found: of the nearest one, and of the nearest ten."""
    fractions = [len(set(a) & set(b)) / len(a) for a, b in zip(expected, found, strict=True)]
    at_1 = (expected[:, 0] == found[:, 0]).mean()
    return {"recall_at_1": float(at_1), f"recall_at_{expected.shape[1]}": float(np.mean(fractions))}


COMPARISONS = [
    Comparison(
        name="gallery of {size:,} photos",
        unit="queries",
        implementations=dict.fromkeys(("ours", "faiss, exact")),
        reference="faiss, exact",
        measure=_measure,
        size=1_000_000,
        size_flag="num_images",
        steps=3,
        warmup=1,
    )
]
