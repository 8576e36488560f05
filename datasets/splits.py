"""The parts of a data set: train, val and test, as the data name them or held out by a hash.

Where the data have no validation part, a hash of a name (of the file, person, author or grid cell) decides, as in
Google's Speech Commands (`which_set`; Warden 2018, arXiv:1804.03209). So adding images moves no others, and a network
that was trained before images were added is never validated on its training images.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.types import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
# Words that name a split, in any case, alone or followed by a number (`train2017`).
SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
HASH_BITS = 48  # a float holds them exactly, so that no fraction rounds up to 1


class MissingSplitError(ValueError):
    """The data have no images for a split."""


class Splittable(Protocol):
    """Examples that can be divided."""

    def __len__(self) -> int: ...

    def select(self, rows: NDArray[np.bool_], /) -> Self:
        """The examples of these rows, in that order."""


S = TypeVar("S", bound=Splittable)


@dataclass(frozen=True)
class Holdout:
    """Which images are held out for validation: those whose group has a hash in [start, stop).

    Attributes:
        start: in [0, 1).
        stop: in (start, 1].
        is_fold: of a cross-validation: the data's own train and val parts are joined and divided anew.
    """

    start: float
    stop: float
    is_fold: bool = False

    @classmethod
    def from_settings(cls, val_fraction: float | None, fold: str | None) -> Self | None:
        """The holdout for a fraction or for a fold, such as 2/5, which goes first; None to hold out nothing."""
        if fold is not None:
            number, count = map(int, fold.split("/"))
            return cls((number - 1) / count, number / count, is_fold=True)
        return None if val_fraction is None else cls(0.0, val_fraction)


class SplitData(Generic[S]):
    """The splits of a data set, each read when it is first used.

    Attributes:
        root: where the data are, for messages.
        found: what they are, in a line for the user.
    """

    def __init__(self, root: Path | str, found: str, readers: Mapping[Split, Callable[[], S]]) -> None:
        """Args: root, found: see above; readers: by split."""
        self.root, self.found = root, found
        self._readers = readers
        self._sources: dict[Split, S] = {}

    @property
    def names(self) -> tuple[Split, ...]:
        """The splits that the data have."""
        return tuple(split for split in SPLITS if split in self._readers)

    def __contains__(self, split: Split) -> bool:
        return split in self._readers

    def __getitem__(self, split: Split) -> S:
        """The examples of a split.

        Raises:
            MissingSplitError: if the data have no such split, or it is empty.
            ValueError: if they cannot be read.
        """
        if split not in self._sources:
            if split not in self._readers:
                raise missing_split(self.root, split, self.names)
            source = self._readers[split]()
            if not len(source):
                raise missing_split(self.root, split, [name for name in self.names if name != split])
            self._sources[split] = source
        return self._sources[split]


def missing_split(root: Path | str, split: Split, found: Iterable[Split]) -> MissingSplitError:
    """The error for a split that the data do not have."""
    names = " and ".join(found) or "none"
    way_out = {
        "train": "call its folder, list or file train",
        "val": "data.val_fraction holds some of the training images out",
        "test": "call its folder, list or file test, or evaluate with --split val",
    }[split]
    return MissingSplitError(f"{root}: there are no images for {split} (found: {names}); {way_out}")


def hold_out(
    data: SplitData[S],
    holdout: Holdout | None,
    *,
    val_rows: Callable[[S, Holdout], NDArray[np.bool_]],
    join: Callable[[Sequence[S]], S],
) -> SplitData[S]:
    """The data with a validation part held out of the training images, unless they have one; or those of a fold.

    Args:
        data: as stored.
        holdout: which images; None to hold out none.
        val_rows: the mask of the images to hold out.
        join: joins the data's own train and val parts, for folds.
    """
    if holdout is None or "train" not in data or ("val" in data and not holdout.is_fold):
        return data

    def part(*, is_val: bool) -> S:
        parts = [data[split] for split in ("train", "val") if split in data]
        whole = parts[0] if len(parts) == 1 else join(parts)
        mask = val_rows(whole, holdout)
        return whole.select(mask if is_val else ~mask)

    readers: dict[Split, Callable[[], S]] = {"train": partial(part, is_val=False), "val": partial(part, is_val=True)}
    if "test" in data:
        readers["test"] = partial(data.__getitem__, "test")
    what = "a fold of train and val" if "val" in data else "part of train"
    return SplitData(data.root, f"{data.found}; {what} is held out for validation by a hash", readers)


def validation_rows(names: Sequence[str], holdout: Holdout) -> NDArray[np.bool_]:
    """Mask of the validation images: those whose group has start <= blake2b(name) / 2⁴⁸ < stop.

    Neither side is empty: if no name is in the range, the one whose hash is nearest to it is for validation; if all
    are, the one with the largest is for training. Only such a fallback can change sides when names are added.

    Args:
        names: (N,), the group of each image; at least two different ones, unless the range is [0, 1].
        holdout: the range.
    """
    if holdout.start == 0 and holdout.stop == 1:
        return np.ones(len(names), np.bool_)
    fraction_of = {name: hash_fraction(name) for name in set(names)}
    assert len(fraction_of) > 1
    fractions = np.array([fraction_of[name] for name in names])
    is_val: NDArray[np.bool_] = (holdout.start <= fractions) & (fractions < holdout.stop)
    if not is_val.any():
        distance = np.maximum(holdout.start - fractions, fractions - holdout.stop)
        is_val = fractions == fractions[distance.argmin()]
    elif is_val.all():
        is_val = fractions < fractions.max()
    return is_val


def hash_fraction(name: str) -> float:
    """A hash of a name, uniform in [0, 1)."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=HASH_BITS // 8).digest()
    return int.from_bytes(digest, "big") / 2.0**HASH_BITS


def split_named(name: str) -> Split | None:
    """The split that a folder, list or value names, such as `Validation` or `train2017`; None if it names none."""
    return SPLIT_WORDS.get(re.sub(r"[\W_]*\d*$", "", name.strip().lower()))


def split_folders(root: Path) -> dict[Split, list[str]]:
    """The subfolders that name a split, sorted, for each split that has some."""
    folders: dict[Split, list[str]] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        split = split_named(entry.name)
        if split is not None and entry.is_dir():
            folders.setdefault(split, []).append(entry.name)
    return {split: folders[split] for split in SPLITS if split in folders}
