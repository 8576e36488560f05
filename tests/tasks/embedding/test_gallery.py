"""A gallery matches exact search, grows, shrinks, and survives a crash at any moment of a write."""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.common.model import neighbours
from tasks.common.model.neighbours import JoinedVectors, SimilarityIndex
from tasks.embedding.gallery import Entry, Gallery, photo_ids

DIM = 16


def unit_vectors(rng: np.random.Generator, num_vectors: int) -> np.ndarray:
    vectors = rng.normal(size=(num_vectors, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def small_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of index at small sizes."""
    monkeypatch.setattr(neighbours, "MAX_SIZES", {"flat": 40, "hnsw": 400, "ivfpq": np.inf})


@pytest.mark.usefixtures("small_kinds")
@pytest.mark.parametrize(("size", "kind"), [(40, "flat"), (400, "hnsw"), (1500, "ivfpq")])
def test_every_kind_finds_adds_and_removes(size: int, kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    vectors, ids = unit_vectors(rng, size), rng.permutation(10 * size)[:size].astype(np.int64)
    index = SimilarityIndex(DIM)
    index.add(ids[: size - 5], vectors[: size - 5])
    index.add(ids[size - 5 :], vectors[size - 5 :])  # still one kind
    assert index.kind == kind
    similarities, found = index.search(vectors[::7], 3)
    assert found[:, 0].tolist() == ids[::7].tolist()
    assert similarities[:, 0] == pytest.approx(1, abs=1e-5)
    exact = np.sort(vectors[::7] @ vectors.T, 1)[:, ::-1][:, :3]
    assert (np.abs(similarities - exact) < 1e-5).mean() > 0.85  # including most of the second and third

    index.remove(ids[:10])
    assert len(index) == size - 10
    assert not np.isin(index.search(vectors[:10], 5)[1], ids[:10]).any()
    index.write(tmp_path / "index.faiss")
    reread = SimilarityIndex.read(tmp_path / "index.faiss")
    assert (reread.kind, len(reread)) == (index.kind, len(index))
    np.testing.assert_array_equal(reread.search(vectors, 3)[1], index.search(vectors, 3)[1])
    order = np.argsort(index.ids)
    np.testing.assert_array_equal(index.vectors()[order], vectors[10:][np.argsort(ids[10:])])


@pytest.mark.usefixtures("small_kinds")
def test_growing_changes_the_kind_and_keeps_every_vector(rng: np.random.Generator) -> None:
    vectors = unit_vectors(rng, 600)
    index, kinds = SimilarityIndex(DIM), []
    for start in range(0, 600, 30):
        index.add(np.arange(start, start + 30), vectors[start : start + 30])
        kinds.append(index.kind)
        np.testing.assert_array_equal(index.search(vectors[: start + 30], 1)[1][:, 0], np.arange(start + 30))
    assert [kind for kind, _ in itertools.groupby(kinds)] == ["flat", "hnsw", "ivfpq"]
    index.remove(np.arange(20, 600))
    assert index.kind == "flat"
    np.testing.assert_array_equal(index.vectors(), vectors[:20])


@pytest.mark.usefixtures("small_kinds")
@pytest.mark.parametrize("dim", [7, 30, 96, 127, 130])
def test_vectors_may_have_any_length(dim: int, rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(500, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = SimilarityIndex(dim)
    index.add(np.arange(500), vectors)
    assert index.kind == "ivfpq"
    assert index.search(vectors, 1)[0][:, 0] == pytest.approx(1, abs=1e-4)


class ReadRows:
    """Vectors, and how many of them were asked for at once."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.numbers = vectors, [0]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice) -> np.ndarray:
        part = self.vectors[rows]
        self.numbers.append(len(part))
        return part


@pytest.mark.usefixtures("small_kinds")
@pytest.mark.parametrize("size", [40, 1500])
def test_vectors_that_are_read_in_pieces_give_the_same_bytes(
    size: int, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, ids = unit_vectors(rng, size), rng.permutation(size).astype(np.int64)
    contents, num_first = [], size // 2
    for rows_at_once in (size, 7):
        monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", rows_at_once)
        parts = [ReadRows(part) for part in (vectors[:num_first], vectors[num_first:-9], vectors[-9:])]
        index = SimilarityIndex(DIM)
        index.add(ids[:num_first], parts[0])
        index.add(ids[num_first:], JoinedVectors(parts[1:]))
        index.remove(ids[3:9])
        index.write(tmp_path / "index.faiss")
        contents.append((tmp_path / "index.faiss").read_bytes())
        assert max(max(part.numbers) for part in parts) <= rows_at_once
    assert contents[0] == contents[1]
    order, kept = np.argsort(index.ids), np.argsort(np.delete(ids, range(3, 9)))
    np.testing.assert_array_equal(index.vectors()[order], np.delete(vectors, range(3, 9), 0)[kept])


def test_an_empty_index_finds_nothing(rng: np.random.Generator) -> None:
    index = SimilarityIndex(DIM)
    assert index.search(unit_vectors(rng, 2), 3)[1].shape == (2, 0)
    index.add(np.array([7]), unit_vectors(rng, 1))
    assert index.search(unit_vectors(rng, 2), 3)[1].tolist() == [[7], [7]]
    index.remove(np.array([7, 8]))
    assert len(index) == 0


def add(gallery: Gallery, ids: Mapping[str, int], vectors: np.ndarray) -> None:
    """Add photos without detected faces."""
    gallery.add(ids, [Entry(photo) for photo in ids], vectors)


def write_photos(folder: Path, num_photos: int) -> list[str]:
    folder.mkdir(exist_ok=True)
    names = [str(folder / f"{i}.jpg") for i in range(num_photos)]
    for name in names:
        Path(name).write_text(name)
    return names


def test_photos_are_replaced_when_they_change(tmp_path: Path, rng: np.random.Generator) -> None:
    photos, vectors = write_photos(tmp_path / "photos", 4), unit_vectors(rng, 5)
    gallery = Gallery.new(tmp_path / "g.faiss", DIM, "net")
    add(gallery, photo_ids(photos), vectors[:4])
    assert gallery.missing(photos) == {}
    Path(photos[2]).write_text("another image")
    reread = Gallery.read(tmp_path / "g.faiss")
    assert list(reread.missing(photos)) == [photos[2]]
    add(reread, photo_ids([photos[2]]), vectors[4:])
    reread = Gallery.read(tmp_path / "g.faiss")
    assert len(reread) == 4
    (best, *_), *_ = reread.search(vectors[4:], 4)
    assert (best.path, best.similarity) == (photos[2], pytest.approx(1, abs=1e-5))
    assert reread.search(vectors[2:3], 1)[0][0].similarity < 0.999  # the old version is gone


def test_a_name_that_is_not_utf_8_is_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    photos, vectors = (
        [str(tmp_path / os.fsdecode(name)) for name in (b"caf\xe9.jpg", b"plain.jpg")],
        unit_vectors(rng, 2),
    )
    for photo in photos:
        Path(photo).touch()
    add(Gallery.new(tmp_path / "g.faiss", DIM, "net"), photo_ids(photos), vectors)
    reread = Gallery.read(tmp_path / "g.faiss")
    assert reread.missing(photos) == {}
    assert [match.path for (match,) in reread.search(vectors, 1)] == photos
    assert json.loads(json.dumps(photos)) == photos, "as in matches.jsonl"
    assert reread.remove(photos[:1]) == 1


def test_photos_and_folders_are_removed(tmp_path: Path, rng: np.random.Generator) -> None:
    ann, anna = write_photos(tmp_path / "ann", 3), write_photos(tmp_path / "anna", 2)
    gallery = Gallery.new(tmp_path / "g.faiss", DIM, "net")
    vectors = unit_vectors(rng, 5)
    add(gallery, photo_ids([*ann, *anna]), vectors)
    assert gallery.remove([anna[0]]) == 1
    assert gallery.remove([str(tmp_path / "ann")]) == 3  # not those of anna
    (tmp_path / f".g.{os.getppid()}.csv").touch()  # of an update that is running
    (tmp_path / f".g.{10**8}.csv").touch()  # of one that was killed
    assert gallery.remove([str(tmp_path / "absent")]) == 0
    assert [path.name for path in tmp_path.glob(".g.*")] == [f".g.{os.getppid()}.csv"]
    reread = Gallery.read(tmp_path / "g.faiss")
    assert [match.path for match in reread.search(vectors[:1], 9)[0]] == [anna[1]]
    gallery.remove([anna[1]])
    assert Gallery.read(tmp_path / "g.faiss").search(vectors[:1], 9) == [[]]


class _CrashError(Exception):
    pass


def crashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Crash before the first, the second, ... file is replaced; ends when an update has no more files to replace."""
    replace = os.replace
    for num_replaced in itertools.count():
        remaining = [num_replaced]

        def crash(source: Any, target: Any, remaining: list[int] = remaining) -> None:
            if remaining[0] == 0:
                raise _CrashError
            remaining[0] -= 1
            replace(source, target)

        monkeypatch.setattr(os, "replace", crash)
        yield
        monkeypatch.setattr(os, "replace", replace)
        if remaining[0] > 0:
            return


def content(path: Path) -> dict[str, tuple[float, ...]]:
    """Photo -> vector, as read from disk."""
    gallery = Gallery.read(path)
    vectors = dict(zip(gallery._index.ids.tolist(), gallery._index.vectors().tolist(), strict=True))
    assert set(vectors) == set(gallery._rows)
    return {row.path: tuple(vectors[id_]) for id_, row in gallery._rows.items()}


@pytest.mark.parametrize("update", ["add", "change", "remove"])
def test_a_crash_in_the_middle_of_a_write_loses_nothing(
    update: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, vectors, path = write_photos(tmp_path / "photos", 6), unit_vectors(rng, 8), tmp_path / "g.faiss"
    add(Gallery.new(path, DIM, "net"), photo_ids(photos[:4]), vectors[:4])
    states = [content(path)]

    def apply() -> None:
        gallery = Gallery.read(path)
        if update == "remove":
            gallery.remove(photos[:2])
        else:
            new, embeddings = (photos[4:], vectors[4:6]) if update == "add" else (photos[:2], vectors[6:])
            add(gallery, photo_ids(new), embeddings)

    if update == "change":
        for photo in photos[:2]:
            Path(photo).write_text("another image")
    num_crashes = 0
    for _ in crashes(monkeypatch):
        try:
            apply()
        except _CrashError:
            num_crashes += 1
        states.append(content(path))
    assert num_crashes >= 2
    before, after = states[0], states[-1]
    assert before != after
    assert all(state in (before, after) for state in states)  # never a partial update
    assert {photo: vector for photo, vector in before.items() if photo in photos[2:4]}.items() <= after.items()
    assert not list(tmp_path.glob(".*"))  # no temporary files


def test_every_version_of_a_photo_has_its_own_id(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    before = photo_ids(photos)
    assert len(set(before.values())) == 2
    assert photo_ids(photos) == before
    os.utime(photos[0], ns=(0, 0))
    after = photo_ids(photos)
    assert [after[photo] == before[photo] for photo in photos] == [False, True]
    assert all(0 <= id_ < 2**63 for id_ in after.values())


def test_a_photo_that_changes_while_being_embedded_is_missing_afterwards(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    gallery = Gallery.new(tmp_path / "g.faiss", DIM, "net")
    ids = gallery.missing(photos)
    Path(photos[0]).write_text("another image")
    add(gallery, ids, unit_vectors(rng, 2))
    assert list(Gallery.read(tmp_path / "g.faiss").missing(photos)) == [photos[0]]


def test_damaged_files_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "g.faiss"
    with pytest.raises(ValueError, match=r"g.faiss: no such gallery; create it with `index FOLDER --out"):
        Gallery.read(path)
    add(Gallery.new(path, DIM, "net"), photo_ids(write_photos(tmp_path / "photos", 3)), unit_vectors(rng, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"g.faiss: not an index that faiss can read"):
        Gallery.read(path)
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(ValueError, match=r"g.faiss: not an index that faiss can read; it is damaged"):
        Gallery.read(path)
    path.write_bytes(whole)
    (tmp_path / "g.csv").write_text("not,a\n1,2\n")
    with pytest.raises(ValueError, match=r"g.csv and g.json, which belong to it, cannot be read"):
        Gallery.read(path)


@pytest.mark.usefixtures("small_kinds")
@pytest.mark.parametrize(("size", "kind"), [(3, "flat"), (60, "hnsw"), (500, "ivfpq")])
def test_damage_in_an_index_without_a_checksum_is_one_line(
    size: int, kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, photos, vectors = tmp_path / "g.faiss", write_photos(tmp_path / "photos", size), unit_vectors(rng, size)
    gallery = Gallery.new(path, DIM, "net")
    add(gallery, photo_ids(photos), vectors)
    assert gallery.kind == kind
    (tmp_path / "g.json").write_text('{"network": "net"}')  # as of an earlier version
    whole = path.read_bytes()[:-32]
    for place, type_, value in ((4, "<i4", DIM // 2), (8, "<i8", size - 1)):  # the dimension, the number of vectors
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[place : place + np.dtype(type_).itemsize] = np.array([value], type_).view(np.uint8)
        path.write_bytes(changed.tobytes())
        with pytest.raises(ValueError, match=r"^[^\n]*g\.faiss: (damaged|not an index)[^\n]*$"):
            Gallery.read(path).search(vectors[:1], 1)


def test_each_face_of_a_photo_is_a_row_with_its_box(tmp_path: Path, rng: np.random.Generator) -> None:
    photos, vectors = write_photos(tmp_path / "photos", 2), unit_vectors(rng, 4)
    boxes = [(1.0, 2.0, 30.5, 40.0), (50.0, 2.0, 80.0, 40.0), (-3.0, 0.0, 9.0, 9.0)]
    gallery = Gallery.new(tmp_path / "g.faiss", DIM, "net")
    rows = [Entry(photos[0], boxes[0]), Entry(photos[0], boxes[1]), Entry(photos[1], boxes[2])]
    gallery.add(photo_ids(photos), rows, vectors[:3])
    reread = Gallery.read(tmp_path / "g.faiss")
    assert len(reread) == 3
    assert reread.missing(photos) == {}
    assert [match[:1] + match[2:] for (match,) in reread.search(vectors[:3], 1)] == rows

    copy = Gallery.read(tmp_path / "g.faiss")
    copy.path = tmp_path / "copy.faiss"
    assert copy.remove([photos[0]]) == 1, "one photo, with two faces"
    assert len(copy) == 1

    Path(photos[0]).write_text("one face now")
    reread.add(reread.missing(photos), [Entry(photos[0], boxes[0])], vectors[3:])
    assert len(Gallery.read(tmp_path / "g.faiss")) == 2, "all faces of the older version are gone"
    assert reread.remove([photos[1]]) == 1


def test_a_gallery_of_an_earlier_version_gets_a_checksum(tmp_path: Path, rng: np.random.Generator) -> None:
    path, photos, vectors = tmp_path / "g.faiss", write_photos(tmp_path / "photos", 3), unit_vectors(rng, 3)
    add(Gallery.new(path, DIM, "net"), photo_ids(photos), vectors)
    path.write_bytes(path.read_bytes()[:-32])
    (tmp_path / "g.json").write_text('{"network": "net"}')
    gallery = Gallery.read(path)
    assert len(gallery) == 3
    gallery.remove(photos[:1])
    whole = path.read_bytes()
    assert hashlib.sha256(whole[:-32]).digest() == whole[-32:]
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        Gallery.read(path)


def test_a_gallery_without_boxes_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    """As earlier versions wrote it."""
    photos, vectors = write_photos(tmp_path / "photos", 2), unit_vectors(rng, 2)
    add(Gallery.new(tmp_path / "g.faiss", DIM, "net"), photo_ids(photos), vectors)
    lines = (tmp_path / "g.csv").read_text().splitlines()
    (tmp_path / "g.csv").write_text("\n".join(line.removesuffix(",x0,y0,x1,y1").removesuffix(",,,,") for line in lines))
    assert [match.face_box_xyxy for (match,) in Gallery.read(tmp_path / "g.faiss").search(vectors, 1)] == [None, None]
