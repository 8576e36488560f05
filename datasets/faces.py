"""Face photos by identity: a folder for each identity, and LFW's layout with its pairs."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.files import missing_files
from datasets.images import image_names
from datasets.splits import Holdout, validation_rows
from datasets.stores import ImageFiles, ImageStore, Rows, StoredExamples
from datasets.types import Face, Split

PAIRS = "pairs.txt"
# Folders of a predefined split; VGGFace2 uses "test".
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "test")}


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
        self, images: ImageStore, names: Sequence[str], photo_numbers: Sequence[int] | NDArray[np.int64]
    ) -> None:
        """Args: images: N; names: identity of each; photo_numbers: see above."""
        super().__init__(images, ())
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
        selected = FaceImages(self.images.select(rows), names, self.photo_numbers[rows])  # type: ignore[arg-type]  # an array of str
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


def read_identities(root: Path) -> FaceImages:
    """A folder for each identity: `root/<identity>/*`.

    Raises:
        ValueError: naming the folder, if it is missing or has no photos in subfolders.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; expected one with a subfolder for each person")
    names: list[str] = []
    identities: list[str] = []
    photo_numbers: list[int] = []
    for folder in sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")):
        photos = image_names(root, folder)
        names += photos
        identities += [folder] * len(photos)
        photo_numbers += range(1, len(photos) + 1)
    if not names:
        raise ValueError(f"{root}: no photos; expected a subfolder with photos for each person")
    return FaceImages(ImageFiles(root, names), identities, photo_numbers)


def split_identities(root: Path, *, val_fraction: float) -> dict[Split, FaceImages]:
    """The photos of each split, with disjoint identities.

    `root/train/<identity>/*` with `root/val` or `root/test`; or only `root/<identity>/*`, where a hash of the name
    assigns each identity to a split, so that adding identities or photos moves no others
    (`datasets/splits.py: validation_rows`).

    Args:
        root: the folder.
        val_fraction: expected validation fraction of the identities without `train`; 0 uses all for training and 1 all
            for validation.

    Returns:
        The non-empty splits.

    Raises:
        ValueError: naming the folder: no photos, an identity in both splits, only one identity to split.
    """
    if (root / "train").is_dir():
        found: dict[Split, FaceImages] = {}
        for split, names in SPLIT_FOLDERS.items():
            for folder in [root / name for name in names if (root / name).is_dir()][:1]:
                found[split] = read_identities(folder)
        both = set(found["train"].identities) & set(found["val"].identities if "val" in found else ())
        if both:
            raise ValueError(f"{root}: {len(both)} identities are in both train and val; first {min(both)}")
        return found
    photos = read_identities(root)
    if val_fraction == 0:
        return {"train": photos}
    if val_fraction < 1 and len(photos.identities) < 2:
        raise ValueError(f"{root}: photos of 1 identity; a split needs at least 2, or data.val_fraction 1")
    is_val = validation_rows(np.array(photos.identities)[photos.identity_ids].tolist(), Holdout(0, val_fraction))
    rows_of: dict[Split, NDArray[np.bool_]] = {"train": ~is_val, "val": is_val}
    return {split: photos.select(rows) for split, rows in rows_of.items() if rows.any()}


def read_lfw(root: Path) -> tuple[FaceImages, list[list[Pair]]]:
    """LFW's layout: `root/<Name>/<Name>_<nnnn>.jpg`, and the folds of pairs in `root/pairs.txt`.

    Returns:
        The photos that occur in a pair, and the folds.

    Raises:
        ValueError: naming file and line: a missing or invalid list, missing photos.
    """
    folds = read_pairs(root / PAIRS)
    photos = sorted({photo for fold in folds for pair in fold for photo in (pair.first, pair.second)})
    names = [f"{photo.identity}/{photo.identity}_{photo.number:04d}.jpg" for photo in photos]
    missing = missing_files([root / name for name in names])
    if missing:
        raise ValueError(f"{len(missing)} of {len(names)} photos of {root / PAIRS} are missing; first {missing[0]}")
    identities, photo_numbers = [photo.identity for photo in photos], [photo.number for photo in photos]
    return FaceImages(ImageFiles(root, names), identities, photo_numbers), folds


def read_pairs(path: Path) -> list[list[Pair]]:
    """LFW's `pairs.txt`: a line `folds<TAB>n`, then for each fold n lines `name i j` and n lines `name i other j`.

    Raises:
        ValueError: naming file and line.
    """
    try:
        lines = [line.rstrip("\n") for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; expected LFW's list of pairs") from error
    lines = [line for line in lines if line.strip()]
    header = lines[0].split("\t") if lines else []
    if len(header) != 2 or not all(word.strip().isdigit() for word in header):
        raise ValueError(f"{path}: line 1: expected the numbers of folds and of matched pairs per fold, tab-separated")
    num_folds, num_pairs = map(int, header)
    if num_folds < 2 or len(lines) - 1 != 2 * num_folds * num_pairs:
        raise ValueError(
            f"{path}: line 1 gives {num_folds} folds of {num_pairs} matched and {num_pairs} mismatched pairs, but "
            f"{len(lines) - 1} lines follow"
        )
    pairs = [_read_pair(path, line_number, line) for line_number, line in enumerate(lines[1:], 2)]
    return [pairs[start : start + 2 * num_pairs] for start in range(0, len(pairs), 2 * num_pairs)]


def _read_pair(path: Path, line_number: int, line: str) -> Pair:
    words = line.split("\t")
    if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
        pair = Pair(Photo(words[0], int(words[1])), Photo(words[0], int(words[2])), same=True)
    elif len(words) == 4 and words[1].isdigit() and words[3].isdigit():
        pair = Pair(Photo(words[0], int(words[1])), Photo(words[2], int(words[3])), same=False)
    else:
        raise ValueError(
            f"{path}: line {line_number}: expected 'name i j' or 'name i other j', tab-separated: {line!r}"
        )
    for photo in pair[:2]:
        if Path(photo.identity).name != photo.identity:
            raise ValueError(f"{path}: line {line_number}: {photo.identity!r} is not a folder name")
    return pair
