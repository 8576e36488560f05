"""Photos of persons: a folder for each identity, and LFW's layout with its pairs."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.files import missing_files
from datasets.groups import validation_rows
from datasets.images import image_names
from datasets.stores import ImageFiles, ImageStore, Rows, StoredExamples
from datasets.types import Face, Split

PAIRS = "pairs.txt"
# Where the data have a split of their own: its folders, VGGFace2's "test" among them.
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "test")}


class Photo(NamedTuple):
    """Which photo: the person, and its number among the person's."""

    identity: str
    number: int


class Pair(NamedTuple):
    """Two photos, and whether they show one person."""

    first: Photo
    second: Photo
    same: bool


class FaceImages(StoredExamples[Face]):
    """Photos and who is on each.

    Attributes:
        identities: names (C,), sorted.
        identity_ids: int64 (N,), positions among the names.
        numbers: int64 (N,), of each photo among the person's.
    """

    def __init__(self, images: ImageStore, names: Sequence[str], numbers: Sequence[int] | NDArray[np.int64]) -> None:
        """Args: images: N; names: whose; numbers: of each photo among the person's."""
        super().__init__(images, ())
        identities, ids = np.unique(np.asarray(names), return_inverse=True)
        self.identities: list[str] = identities.tolist()
        self.identity_ids = ids.astype(np.int64)
        self.numbers = np.asarray(numbers, np.int64)

    def truth(self, index: int) -> Face:
        """Who is on a photo, without opening it."""
        return Face(self.identities[self.identity_ids[index]], int(self.numbers[index]))

    def select(self, rows: Rows) -> FaceImages:
        """Some of the photos, in that order."""
        names = np.array(self.identities)[self.identity_ids[rows]]
        some = FaceImages(self.images.select(rows), names, self.numbers[rows])  # type: ignore[arg-type]  # an array of str
        some.min_side_px = self.min_side_px
        return some

    def without(self, identities: Collection[str]) -> FaceImages:
        """The photos of all other persons."""
        return self.select(~np.isin(self.identities, list(identities))[self.identity_ids])


class IdentityBalance:
    """Batches of P persons with K photos each, every person as often as the others: a `datasets.loader.Order`.

    Source: Hermans et al. 2017 (arXiv:1703.07737), section 2, for the batches.
    """

    def __init__(self, identity_ids: NDArray[np.int64], photos_per_identity: int) -> None:
        """Args: identity_ids: (N,) of all photos; photos_per_identity: K; a person with fewer has some twice."""
        order = np.argsort(identity_ids, kind="stable")
        self._num_photos = len(order)
        self._rows_of = np.split(order, np.flatnonzero(np.diff(identity_ids[order])) + 1)
        self._photos_per_identity = photos_per_identity

    def __call__(self, rng: np.random.Generator, batch_size: int) -> NDArray[np.int64]:
        """The rows of an epoch's batches; a batch has a person twice only where there are fewer than P."""
        num_identities = -(-batch_size // self._photos_per_identity)
        batches = []
        for _ in range(self._num_photos // batch_size):
            chosen = np.resize(rng.permutation(len(self._rows_of)), num_identities)
            rows = [np.resize(rng.permutation(self._rows_of[i]), self._photos_per_identity) for i in chosen]
            batches.append(np.concatenate(rows)[:batch_size])
        return np.concatenate(batches)


def read_identities(root: Path) -> FaceImages:
    """A folder for each identity: `root/<identity>/*`.

    Raises:
        ValueError: naming the folder: not there, or without photos in subfolders.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; expected a subfolder for each person in it")
    names: list[str] = []
    identities: list[str] = []
    numbers: list[int] = []
    for folder in sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")):
        photos = image_names(root, folder)
        names += photos
        identities += [folder] * len(photos)
        numbers += range(1, len(photos) + 1)
    if not names:
        raise ValueError(f"{root}: no photos there; expected a subfolder for each person with the person's photos")
    return FaceImages(ImageFiles(root, names), identities, numbers)


def split_identities(root: Path, *, val_fraction: float) -> dict[Split, FaceImages]:
    """The photos of each split, with no person on both sides.

    `root/train/<identity>/*` with `root/val` or `root/test`; or `root/<identity>/*` alone, of which a hash of the name
    takes whole persons for validation, so that persons and photos that are added move no others
    (`datasets/groups.py: validation_rows`).

    Args:
        root: the folder.
        val_fraction: expected fraction of the identities, where the split is ours; 0 leaves none for validation and 1
            none for training.

    Returns:
        Those of the splits that have photos.

    Raises:
        ValueError: naming the folder: no photos, a person on both sides, one person alone to split.
    """
    if (root / "train").is_dir():
        found: dict[Split, FaceImages] = {}
        for split, names in SPLIT_FOLDERS.items():
            for folder in [root / name for name in names if (root / name).is_dir()][:1]:
                found[split] = read_identities(folder)
        both = set(found["train"].identities) & set(found["val"].identities if "val" in found else ())
        if both:
            raise ValueError(f"{root}: {len(both)} persons are in train and in val too; first {min(both)}")
        return found
    photos = read_identities(root)
    if val_fraction == 0:
        return {"train": photos}
    if val_fraction < 1 and len(photos.identities) < 2:
        raise ValueError(f"{root}: photos of 1 person; two or more are needed for a split, or data.val_fraction 1")
    is_val = validation_rows(np.array(photos.identities)[photos.identity_ids].tolist(), val_fraction)
    rows_of: dict[Split, NDArray[np.bool_]] = {"train": ~is_val, "val": is_val}
    return {split: photos.select(rows) for split, rows in rows_of.items() if rows.any()}


def read_lfw(root: Path) -> tuple[FaceImages, list[list[Pair]]]:
    """LFW's layout: `root/<Name>/<Name>_<nnnn>.jpg`, and the pairs of `root/pairs.txt` by folds.

    Returns:
        The photos that occur in a pair, each once, and the folds.

    Raises:
        ValueError: naming file and line: not there, not such a list, photos that are missing.
    """
    folds = read_pairs(root / PAIRS)
    photos = sorted({photo for fold in folds for pair in fold for photo in (pair.first, pair.second)})
    names = [f"{photo.identity}/{photo.identity}_{photo.number:04d}.jpg" for photo in photos]
    missing = missing_files([root / name for name in names])
    if missing:
        raise ValueError(f"{len(missing)} of {len(names)} photos of {root / PAIRS} are missing; first {missing[0]}")
    identities, numbers = [photo.identity for photo in photos], [photo.number for photo in photos]
    return FaceImages(ImageFiles(root, names), identities, numbers), folds


def read_pairs(path: Path) -> list[list[Pair]]:
    """LFW's `pairs.txt`: a line `folds<TAB>n`, then for each fold n lines `name i j` and n lines `name i other j`.

    Raises:
        ValueError: naming file and line.
    """
    try:
        lines = [line.rstrip("\n") for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file; expected LFW's list of pairs") from error
    lines = [line for line in lines if line.strip()]
    head = lines[0].split("\t") if lines else []
    if len(head) != 2 or not all(word.strip().isdigit() for word in head):
        raise ValueError(
            f"{path}: line 1: expected the number of folds and of matched pairs in each, with a tab between"
        )
    num_folds, num_pairs = map(int, head)
    if num_folds < 2 or len(lines) - 1 != 2 * num_folds * num_pairs:
        raise ValueError(
            f"{path}: line 1 says {num_folds} folds of {num_pairs} matched and {num_pairs} mismatched pairs; there are "
            f"{len(lines) - 1} lines after it"
        )
    pairs = [_read_pair(path, number, line) for number, line in enumerate(lines[1:], 2)]
    return [pairs[start : start + 2 * num_pairs] for start in range(0, len(pairs), 2 * num_pairs)]


def _read_pair(path: Path, number: int, line: str) -> Pair:
    words = line.split("\t")
    if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
        pair = Pair(Photo(words[0], int(words[1])), Photo(words[0], int(words[2])), same=True)
    elif len(words) == 4 and words[1].isdigit() and words[3].isdigit():
        pair = Pair(Photo(words[0], int(words[1])), Photo(words[2], int(words[3])), same=False)
    else:
        raise ValueError(f"{path}: line {number}: expected 'name i j' or 'name i other j' with tabs between: {line!r}")
    for photo in pair[:2]:
        if Path(photo.identity).name != photo.identity:
            raise ValueError(f"{path}: line {number}: {photo.identity!r} is not the name of a folder")
    return pair
