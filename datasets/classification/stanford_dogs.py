"""Stanford Dogs' official layout: `Images/<wnid>-<Breed>/*`, `train_list.mat` and `test_list.mat`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.classification.labelled import LabelledImages, join_labelled, validation_rows_of_classes
from datasets.classification.matlab import read_matlab
from datasets.locate import locate_images
from datasets.splits import Holdout, SplitData, hold_out
from datasets.types import Split

IMAGES, TRAIN_LIST, TEST_LIST = "Images", "train_list.mat", "test_list.mat"


def read_stanford_dogs(root: Path, holdout: Holdout | None = None) -> SplitData[LabelledImages]:
    """The two official lists; the second is for validation and for testing, since there are no more.

    Raises:
        ValueError: naming the file: missing or invalid lists.
    """
    lists: dict[Split, Path] = {"train": root / TRAIN_LIST, "val": root / TEST_LIST, "test": root / TEST_LIST}
    if holdout is not None and holdout.is_fold:
        del lists["test"]  # its images are divided anew
    readers = {split: partial(_read_split, root, path) for split, path in lists.items()}
    data = SplitData(root, f"Stanford Dogs: {TRAIN_LIST}, and {TEST_LIST} for val and test", readers)
    rows = partial(validation_rows_of_classes, root=root, key=partial(os.path.relpath, start=IMAGES))
    return hold_out(data, holdout, val_rows=rows, join=join_labelled)


def _read_split(root: Path, path: Path) -> LabelledImages:
    names, labels = _read_list(path)
    train_list = root / TRAIN_LIST
    train_names, train_labels = (names, labels) if path == train_list else _read_list(train_list)
    folders = dict(zip(train_labels.tolist(), (name.split("/")[0] for name in train_names), strict=True))
    if sorted(folders) != list(range(1, len(folders) + 1)):
        raise ValueError(f"{train_list}: expected consecutive labels 1 to {len(folders)} in 'labels'")
    for name, label in zip(names, labels.tolist(), strict=True):
        if name.split("/")[0] != folders.get(label):
            raise ValueError(f"{path}: {name!r} has label {label}, which is {folders.get(label)!r}")
    images, warnings = locate_images(root, names, path, folders=[IMAGES])
    class_names = [folders[label].split("-", 1)[-1].replace("_", " ") for label in sorted(folders)]
    return LabelledImages(images, labels - 1, class_names, warnings)


def _read_list(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    expected = f"{path}: expected a list of Stanford Dogs, a .mat file with 'file_list' and 'labels'"
    if not path.is_file():
        raise ValueError(f"{expected}; no such file")
    try:
        content = read_matlab(path)
        names, labels = content["file_list"], content["labels"]
    except KeyError as error:
        raise ValueError(f"{expected}; it has no {error}") from error
    except ValueError as error:
        raise ValueError(f"{expected} ({error})") from error
    if not isinstance(names, list) or not isinstance(labels, np.ndarray) or not _are_whole(labels):
        raise ValueError(f"{expected}: names of files and whole numbers")
    if len(names) != len(labels) or not names:
        raise ValueError(f"{expected} of equal length, got {len(names)} and {len(labels)}")
    return names, labels.astype(np.int64)


def _are_whole(numbers: NDArray[Any]) -> bool:
    return bool((np.abs(numbers) < 2**31).all() and (numbers == numbers.astype(np.int64)).all())
