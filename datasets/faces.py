"""Face photos by identity: a folder for each identity, and LFW's layout with its pairs."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.folders import FolderLayout, find_layout, read_groups
from datasets.listing import list_images
from datasets.shards.faces import read_face_records
from datasets.shards.find import Shards, find_shards
from datasets.shards.records import open_shards
from datasets.splits import Holdout, SplitData, hold_out, validation_rows
from datasets.stores import ImageFiles, ImageStore, Rows, StoredExamples, join_images
from datasets.types import Face, Split
from datasets.words import some

PAIRS = "pairs.txt"
NUMBER = "[0-9]{1,9}"


class Photo(NamedTuple):
    """A photo: its identity, and its number among the identity's photos, from 1."""

    identity: str
    number: int


class Pair(NamedTuple):
    """Two photos, and whether both show one identity."""

    first: Photo
    second: Photo
    same: bool


class FaceImages(StoredExamples[Face]):
    """Photos and their identities.

    Attributes:
        identities: names (C,), sorted.
        identity_ids: int64 (N,), indices into identities.
        photo_numbers: int64 (N,), number of each photo among its identity's.
    """

    def __init__(
        self,
        images: ImageStore,
        names: Sequence[str] | NDArray[np.str_],
        photo_numbers: Sequence[int] | NDArray[np.int64],
        warnings: Sequence[str] = (),
    ) -> None:
        """Args: images: N; names: identity of each; photo_numbers: see above; warnings: of the reader."""
        super().__init__(images, warnings)
        identities, ids = np.unique(np.asarray(names), return_inverse=True)
        self.identities: list[str] = identities.tolist()
        self.identity_ids = ids.astype(np.int64)
        self.photo_numbers = np.asarray(photo_numbers, np.int64)

    def truth(self, index: int) -> Face:
        """The identity of a photo, without reading it."""
        return Face(self.identities[self.identity_ids[index]], int(self.photo_numbers[index]))

    def select(self, rows: Rows) -> FaceImages:
        """The photos of these rows, in that order."""
        names = np.array(self.identities)[self.identity_ids[rows]]
        selected = FaceImages(self.images.select(rows), names.tolist(), self.photo_numbers[rows], self.warnings)
        selected.decoding = self.decoding
        return selected

    def without(self, identities: Collection[str]) -> FaceImages:
        """The photos of all other identities."""
        return self.select(~np.isin(self.identities, list(identities))[self.identity_ids])


class IdentityBalance:
    """Batches of P identities with K photos each, all identities equally often: a `datasets.loader.Order`.

    Source: Hermans et al. 2017 (arXiv:1703.07737), section 2 (PK batches).
    """

    def __init__(self, identity_ids: NDArray[np.int64], photos_per_identity: int) -> None:
        """Args: identity_ids: (N,) of all photos; photos_per_identity: K; with fewer photos some repeat."""
        order = np.argsort(identity_ids, kind="stable")
        self._num_photos = len(order)
        self._rows_of = np.split(order, np.flatnonzero(np.diff(identity_ids[order])) + 1)
        self._photos_per_identity = photos_per_identity

    def __call__(self, rng: np.random.Generator, batch_size: int) -> NDArray[np.int64]:
        """The rows of an epoch's batches; an identity repeats in a batch only if there are fewer than P."""
        num_identities = -(-batch_size // self._photos_per_identity)
        batches = []
        for _ in range(self._num_photos // batch_size):
            chosen = np.resize(rng.permutation(len(self._rows_of)), num_identities)
            rows = [np.resize(rng.permutation(self._rows_of[i]), self._photos_per_identity) for i in chosen]
            batches.append(np.concatenate(rows)[:batch_size])
        return np.concatenate(batches)


def open_faces(root: Path | Shards, holdout: Holdout | None = None) -> SplitData[FaceImages]:
    """The photos of each split, with disjoint persons.

    `root/train/<person>/*` with `val` or `test` or both, or only `root/<person>/*`; names of splits are found in any
    case. Where there is no validation part, a hash of the name holds some persons out, so that adding persons or photos
    moves no others.

    Args:
        root: the folder, or tar files.
        holdout: which persons to hold out.

    Raises:
        ValueError: naming the folder: no photos in subfolders, a person in two splits, only one person to divide.
    """
    if (shards := find_shards(root)) is not None:
        return _open_shards(shards, holdout)
    assert isinstance(root, Path)
    layout = replace(find_layout(root, "person"), read=PAIRS)
    _require_disjoint(root, {split: layout.groups(split) for split in layout.parents})
    readers = {split: partial(_read_persons, layout, split) for split in layout.parents}
    data = SplitData(root, f"a folder for each person: {layout.describe()}", readers)
    return hold_out(data, holdout, val_rows=partial(_validation_rows, root), join=_join)


def _open_shards(shards: Shards, holdout: Holdout | None) -> SplitData[FaceImages]:
    def read(part: Shards) -> FaceImages:
        records = read_face_records(part)
        return FaceImages(records.images, records.persons, records.numbers, records.warnings)

    data = open_shards(shards, read)
    if len(data.names) > 1:
        _require_disjoint(shards.root, {split: data[split].identities for split in data.names})
    return hold_out(data, holdout, val_rows=partial(_validation_rows, shards.root), join=_join)


def _require_disjoint(root: Path | str, persons: Mapping[Split, Sequence[str]]) -> None:
    for first, second in itertools.combinations(persons, 2):
        both = sorted(set(persons[first]) & set(persons[second]))
        if both:
            raise ValueError(
                f"{root}: {some(both, 'person')} in both {first} and {second}; expected each in one of them, "
                "since faces are scored on persons that were not trained on"
            )


def _read_persons(layout: FolderLayout, split: Split) -> FaceImages:
    images = read_groups(layout, split)
    counts: Counter[str] = Counter()
    numbers = []
    for group in images.groups:
        counts[group] += 1
        numbers.append(counts[group])
    single = [person for person, count in counts.items() if count == 1]
    warnings = images.warnings
    empty = sorted(set(layout.groups(split)) - set(counts))
    if empty:
        warnings.append(f"{layout.root}: {some(empty, 'folder')} without photos")
    if single:
        of = f" for {split}" if layout.has_splits else ""
        warnings.append(
            f"{layout.root}: {some(single, 'person')} of {len(counts)}{of} with one photo only, which has no other to "
            "match"
        )
    names = np.array([*map(os.fsencode, images.names)], np.bytes_)
    return FaceImages(ImageFiles(layout.root, names), images.groups, numbers, warnings)


def _validation_rows(root: Path | str, photos: FaceImages, holdout: Holdout) -> NDArray[np.bool_]:
    names = np.array(photos.identities)[photos.identity_ids].tolist()
    if len(photos.identities) < 2 and (holdout.start, holdout.stop) != (0, 1):
        raise ValueError(
            f"{root}: photos of one person only ({photos.identities[0]}); training and validation need photos of "
            "at least one person each. With data.val_fraction 1 all are for validation"
        )
    return validation_rows(names, holdout)


def _join(parts: Sequence[FaceImages]) -> FaceImages:
    names = [person for part in parts for person in np.array(part.identities)[part.identity_ids].tolist()]
    warnings = list(dict.fromkeys(line for part in parts for line in part.warnings))
    images = join_images([part.images for part in parts])
    return FaceImages(images, names, np.concatenate([part.photo_numbers for part in parts]), warnings)


def read_lfw(root: Path) -> tuple[FaceImages, list[list[Pair]]]:
    """LFW's layout: `root/<Name>/<Name>_<nnnn>.jpg`, and the folds of pairs in `root/pairs.txt`.

    A photo that is missing is kept, and counts as unreadable; the pairs with it are left out of the score.

    Returns:
        The photos that occur in a pair, and the folds.

    Raises:
        ValueError: naming file and line: a missing or invalid list, no photos, no pairs in two folds.
    """
    path = root / PAIRS
    folds = read_pairs(path)
    photos = sorted({photo for fold in folds for pair in fold for photo in pair[:2]})
    names, missing = _find_photos(root, photos)
    if len(missing) == len(photos):
        raise ValueError(f"{path}: none of its {len(photos)} photos is there; the first would be {root / names[0]}")
    warnings = []
    if missing:
        num_pairs = sum(map(len, folds))
        folds = [[pair for pair in fold if missing.isdisjoint(pair[:2])] for fold in folds]
        folds = [fold for fold in folds if fold]
        num_left = sum(map(len, folds))
        line = (
            f"{path}: {len(missing)} of its {len(photos)} photos are missing, so {num_pairs - num_left} of {num_pairs} "
            f"pairs cannot be scored; the first, {root / names[photos.index(min(missing))]}"
        )
        if len(folds) < 2:
            raise ValueError(f"{line}; expected pairs in two folds or more")
        warnings.append(line)
    identities, photo_numbers = [photo.identity for photo in photos], [photo.number for photo in photos]
    return FaceImages(ImageFiles(root, names), identities, photo_numbers, warnings), folds


def _find_photos(root: Path, photos: Sequence[Photo]) -> tuple[list[str], set[Photo]]:
    """The file of each photo below root, with any suffix of images, and the photos that have none."""
    names, missing = [], set()
    for identity, group in itertools.groupby(photos, key=lambda photo: photo.identity):
        folder = root / identity
        listed = list_images(root, identity, recursive=False).names if os.path.isdir(folder) else []
        name_of = {Path(name).stem: name for name in listed}
        for photo in group:
            stem = f"{identity}_{photo.number:04d}"
            if stem not in name_of:
                missing.add(photo)
            names.append(name_of.get(stem, f"{identity}/{stem}.jpg"))
    return names, missing


def read_pairs(path: Path) -> list[list[Pair]]:
    """LFW's `pairs.txt`: a line `folds<TAB>n`, then for each fold n lines `name i j` and n lines `name i other j`.

    Raises:
        ValueError: naming file and line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected LFW's list of pairs")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8; expected LFW's list of pairs") from error
    lines = [line for line in lines if line.strip()]
    header = lines[0].split("\t") if lines else []
    if len(header) != 2 or not all(re.fullmatch(NUMBER, word.strip()) for word in header):
        raise ValueError(f"{path}: line 1: expected the numbers of folds and of matched pairs per fold, tab-separated")
    num_folds, num_pairs = map(int, header)
    if num_folds < 2 or num_pairs < 1 or len(lines) - 1 != 2 * num_folds * num_pairs:
        raise ValueError(
            f"{path}: line 1 gives {num_folds} folds of {num_pairs} matched and {num_pairs} mismatched pairs, but "
            f"{len(lines) - 1} lines follow"
        )
    pairs = [_read_pair(path, line_number, line) for line_number, line in enumerate(lines[1:], 2)]
    return [pairs[start : start + 2 * num_pairs] for start in range(0, len(pairs), 2 * num_pairs)]


def _read_pair(path: Path, line_number: int, line: str) -> Pair:
    words = line.split("\t")
    if len(words) == 3 and re.fullmatch(NUMBER, words[1]) and re.fullmatch(NUMBER, words[2]):
        pair = Pair(Photo(words[0], int(words[1])), Photo(words[0], int(words[2])), same=True)
    elif len(words) == 4 and re.fullmatch(NUMBER, words[1]) and re.fullmatch(NUMBER, words[3]):
        pair = Pair(Photo(words[0], int(words[1])), Photo(words[2], int(words[3])), same=False)
    else:
        raise ValueError(
            f"{path}: line {line_number}: expected 'name i j' or 'name i other j', tab-separated: {line!r}"
        )
    for photo in pair[:2]:
        if Path(photo.identity).name != photo.identity or photo.identity in ("", os.pardir) or "\0" in photo.identity:
            raise ValueError(f"{path}: line {line_number}: {photo.identity!r} is not a folder name")
    return pair
