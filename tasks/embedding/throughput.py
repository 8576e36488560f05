"""How a gallery of a million photos does: building, memory, queries a second, recall, beside exact search.

    python -m tasks.embedding.throughput

Embeddings are made up: persons at random on the sphere, ten photos around each, and queries that are one photo more of
some persons. Exact search and ours answer the same queries in turn, in this process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from tasks.common.model.neighbours import Floats, SimilarityIndex, choose_kind

DIM, PHOTOS_PER_PERSON = 128, 10
SPREAD = 0.9  # of a person's photos, in lengths of the vector between person and middle: cosines of about 0.55
NUM_QUERIES, ROUNDS = 500, 3


def main() -> int:
    """Print figures for one size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000_000, help="photos (default: %(default)s)")
    size = parser.parse_args().size
    vectors, queries = embeddings(size)
    print(f"{size} photos, {vectors.nbytes / 1e6:.0f} MB of vectors, {peak_mb():.0f} MB peak memory before indexing")

    started = time.perf_counter()
    index = SimilarityIndex(DIM)
    index.add(np.arange(size), vectors)
    print(f"built ({choose_kind(size)}) in {time.perf_counter() - started:.1f} s, {peak_mb():.0f} MB peak memory")
    started = time.perf_counter()
    index.add(np.arange(size, size + len(queries)), queries)
    print(f"added {len(queries)} more in {time.perf_counter() - started:.3f} s")
    started = time.perf_counter()
    index.remove(np.arange(size, size + len(queries)))
    print(f"removed them in {time.perf_counter() - started:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.faiss"
        started = time.perf_counter()
        index.write(path)
        print(f"written in {time.perf_counter() - started:.1f} s, {path.stat().st_size / 1e6:.0f} MB", end="; ")
        started = time.perf_counter()
        SimilarityIndex.read(path)
        print(f"read in {time.perf_counter() - started:.1f} s")

    exact = faiss.IndexFlatIP(DIM)
    exact.add(vectors)
    rates: dict[str, list[float]] = {"exact": [], "ours": []}
    for _ in range(ROUNDS):
        true = _time(rates["exact"], lambda: exact.search(queries, 10)[1])
        found = _time(rates["ours"], lambda: index.search(queries, 10)[1])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    recall_at_10 = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(true, found, strict=True)])
    ratio = medians["ours"] / medians["exact"]
    print(f"queries/s: exact {medians['exact']:.0f}, ours {medians['ours']:.0f}, ratio {ratio:.1f}")
    print(f"recall@1 {(true[:, 0] == found[:, 0]).mean():.4f}, recall@10 {recall_at_10:.4f}")
    return 0


def embeddings(size: int) -> tuple[Floats, Floats]:
    """Photos (size, DIM) and queries (NUM_QUERIES, DIM), of length 1."""
    rng = np.random.default_rng(0)
    persons = _unit(rng.standard_normal((-(-size // PHOTOS_PER_PERSON), DIM), dtype=np.float32))
    return _photos(np.resize(np.arange(len(persons)), size), persons, rng), _photos(
        rng.integers(len(persons), size=NUM_QUERIES), persons, rng
    )


def _photos(whose: np.ndarray, persons: Floats, rng: np.random.Generator) -> Floats:
    noise = rng.standard_normal((len(whose), DIM), dtype=np.float32) * np.float32(SPREAD / DIM**0.5)
    return _unit(persons[whose] + noise)


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _time(rates: list[float], search: Callable[[], np.ndarray]) -> np.ndarray:
    started = time.perf_counter()
    found = search()
    rates.append(len(found) / (time.perf_counter() - started))
    return found


def peak_mb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    raise SystemExit(main())
