"""Divide data into train, val and test by the hash that a training uses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.classification.labelled import LabelledImages
from datasets.open import open_folder
from datasets.splits import Holdout
from datasets.types import Split


class Divided(NamedTuple):
    """Data in their splits.

    Attributes:
        kind: such as detection.
        found: what the data are, in a line for the user.
        sources: by split.
        notes: what a user would not expect of the division.
    """

    kind: str
    found: str
    sources: dict[Split, Any]
    notes: list[str]

    @property
    def warnings(self) -> list[str]:
        """Those of the readers."""
        return [line for source in self.sources.values() for line in source.warnings]


def divide(
    root: Path,
    *,
    kind: Any = "auto",
    format: str = "auto",
    csv: str | None = None,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
) -> Divided:
    """The data's own splits, with a val part held out as `train` does with data.val_fraction, and then a test part.

    The images for val have a hash in [0, val_fraction), those for test in [val_fraction, val_fraction +
    test_fraction), so that the val part is the same with a test part and without.

    Args:
        root: the folder.
        kind: of the data, or auto.
        format: of the data, or auto.
        csv: the CSV file of places, relative to root; None to look for it.
        val_fraction: of the training images; None to hold none out.
        test_fraction: likewise.

    Raises:
        ValueError: if the data cannot be read or divided, or have a part already that is to be held out.
    """
    open_data = partial(open_folder, root, kind=kind, format=format, csv=csv)
    found_kind, data = open_data()
    found = data.found
    asked: dict[Split, float | None] = {"val": val_fraction, "test": test_fraction}
    for split, value in asked.items():
        if value is not None and split in data:
            raise ValueError(f"--{split}_fraction: {root} has a {split} part of its own; leave the flag out")
        if value is not None and "train" not in data:
            raise ValueError(f"--{split}_fraction: {root} has no train part to hold {split} out of")
    start = val_fraction or 0.0
    if start + (test_fraction or 0) >= 1:
        raise ValueError("--val_fraction and --test_fraction: expected a sum under 1, so that some are for training")
    if val_fraction is not None:
        _, data = open_data(holdout=Holdout(0.0, val_fraction))
    sources = {split: data[split] for split in data.names}
    if test_fraction is None:
        return Divided(found_kind, found, sources, [])
    # As a fold, since a val part of the data's own must not keep a test part from being held out.
    holdout = Holdout(start, start + test_fraction, is_fold=True)
    _, tested = open_data(holdout=holdout)
    train, notes = sources["train"], list[str]()
    is_test = _is_in(train, tested["val"])
    if isinstance(train, LabelledImages):
        is_test, notes = _keep_for_training(train, is_test)
    is_train = ~is_test & _is_in(train, tested["train"], tested["val"])  # without the places that are near one for test
    if not is_test.any() or not is_train.any():
        part = "train" if is_test.any() else "test"
        raise ValueError(f"{root}: too few images for train, val and test: none would be left for {part}")
    sources |= {"train": train.select(is_train), "test": train.select(is_test)}
    return Divided(found_kind, found, sources, notes)


def _is_in(source: Any, *others: Any) -> NDArray[np.bool_]:
    ids = {other.id(row) for other in others for row in range(len(other))}
    return np.array([source.id(row) in ids for row in range(len(source))])


def _keep_for_training(train: LabelledImages, is_test: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """The images for test without those of classes that would have none left for training, and a line for the user."""
    num_classes = len(train.class_names)
    left = np.bincount(train.class_ids[~is_test], minlength=num_classes)
    is_test = is_test & (left > 0)[train.class_ids]
    used = np.unique(train.class_ids)
    untested = used[np.bincount(train.class_ids[is_test], minlength=num_classes)[used] == 0]
    if not len(untested):
        return is_test, []
    return is_test, [f"{len(untested)} classes have no image for test; the first, {train.class_names[untested[0]]}"]
