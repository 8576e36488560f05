"""Images with one class each: class folders, ImageNet's layout, Stanford Dogs' layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from datasets.files import missing_files, path_inside
from datasets.images import image_names
from datasets.splits import Holdout, validation_rows
from datasets.stores import ImageFiles, StoredExamples
from datasets.types import Label, Split

# With lines `wnid name`; the second comes with Kaggle's copy of ImageNet.
IMAGENET_CLASS_LISTS = ("classes.txt", "LOC_synset_mapping.txt")


class LabelledImages(StoredExamples[Label]):
    """Images and their classes.

    Attributes:
        class_names: by class id.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        class_ids: Sequence[int] | NDArray[np.int64],
        class_names: Sequence[str],
        warnings: Sequence[str] = (),
    ) -> None:
        """Args: root: folder; names: image files below it; class_ids: one each; class_names: by class id."""
        if not len(names):
            raise ValueError(f"{root}: there are no images in it")
        super().__init__(ImageFiles(root, names), warnings)
        self._class_ids = np.asarray(class_ids, np.int64)
        self.class_names = tuple(class_names)

    def truth(self, index: int) -> Label:
        """The class of an image, without reading it."""
        return Label(int(self._class_ids[index]))


def read_folders(root: Path, split: Split, *, val_fraction: float) -> LabelledImages:
    """Class folders: `root/train/<class>/*` and `root/val/<class>/*`, or only `root/<class>/*`.

    Without `train`, a hash of `<class>/<file>` assigns each image to a split, so that adding images moves no others
    (`datasets/splits.py: validation_rows`).

    Args:
        root: the folder.
        split: train or val.
        val_fraction: expected validation fraction per class if there is no `train`; each class is in both splits.

    Raises:
        ValueError: naming the folder: missing, fewer than two classes, a class with too few images to split, a class
            in `val` that is not in `train`.
    """
    if (root / "train").is_dir():
        return _read_class_folders(root / split, _subfolders(root / "train"))
    folders = _subfolders(root)
    names: list[str] = []
    class_ids: list[int] = []
    for class_id, folder in enumerate(folders):
        files = image_names(root, folder)
        if len(files) < 2:
            raise ValueError(
                f"{root / folder}: {len(files)} images; a class needs at least 2 to be split into train and val"
            )
        in_split = validation_rows(files, Holdout(0, val_fraction)) == (split == "val")
        names += compress(files, in_split)
        class_ids += [class_id] * int(in_split.sum())
    return LabelledImages(root, names, class_ids, folders)


def read_imagenet(root: Path, split: Split) -> LabelledImages:
    """ImageNet's layout: `root/train/<wnid>/*` and `root/val/<wnid>/*`.

    Class ids follow `classes.txt` or `LOC_synset_mapping.txt` (lines `wnid name`) if present, so that they are correct
    even if some classes have no images; else the sorted folders of `train`, or of `val` if there is no `train`.

    Raises:
        ValueError: naming the file or folder: missing, an invalid list, a folder that is not in the list.
    """
    for file in IMAGENET_CLASS_LISTS:
        if (root / file).is_file():
            wnids, class_names = _read_class_list(root / file)
            return _read_class_folders(root / split, wnids, class_names)
    wnids = _subfolders(root / "train" if (root / "train").is_dir() else root / "val")
    return _read_class_folders(root / split, wnids)


def read_stanford_dogs(root: Path, split: Split) -> LabelledImages:
    """Stanford Dogs' official layout: `Images/<wnid>-<Breed>/*`, `train_list.mat`, `test_list.mat` (used as val).

    Raises:
        ValueError: naming the file: missing or invalid lists, missing images.
    """
    lists = {"train": root / "train_list.mat", "val": root / "test_list.mat"}
    names, labels = _read_dogs_list(lists[split])
    train_names, train_labels = (names, labels) if split == "train" else _read_dogs_list(lists["train"])
    folders = dict(zip(train_labels.tolist(), (name.split("/")[0] for name in train_names), strict=True))
    if sorted(folders) != list(range(1, len(folders) + 1)):
        raise ValueError(f"{lists['train']}: expected consecutive labels 1 to {len(folders)} in 'labels'")
    for name, label in zip(names, labels.tolist(), strict=True):
        if name.split("/")[0] != folders.get(label):
            raise ValueError(f"{lists[split]}: {name!r} has label {label}, which is {folders.get(label)!r}")
    images = root / "Images"
    missing = missing_files([path_inside(images, name) for name in names])
    if missing:
        raise ValueError(f"{len(missing)} of {len(names)} images of {lists[split]} are missing; first {missing[0]}")
    class_names = [folders[label].split("-", 1)[-1].replace("_", " ") for label in sorted(folders)]
    return LabelledImages(images, names, labels - 1, class_names)


def _read_class_folders(root: Path, folders: Sequence[str], class_names: Sequence[str] | None = None) -> LabelledImages:
    """All images below `root`, whose subfolders must be among `folders`."""
    subfolders = _subfolders(root)
    class_id_of = {folder: class_id for class_id, folder in enumerate(folders)}
    unknown = [folder for folder in subfolders if folder not in class_id_of]
    if unknown:
        raise ValueError(f"{root / unknown[0]}: not one of the {len(folders)} classes ({', '.join(folders[:3])}, ...)")
    names: list[str] = []
    class_ids: list[int] = []
    empty: list[str] = []
    for folder in subfolders:
        files = image_names(root, folder)
        names += files
        class_ids += [class_id_of[folder]] * len(files)
        if not files:
            empty.append(folder)
    warnings = [f"{root}: {len(empty)} class folders without images; first {empty[0]}"] if empty else []
    return LabelledImages(root, names, class_ids, class_names or folders, warnings)


def _subfolders(root: Path) -> list[str]:
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; expected one with a subfolder for each class")
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if len(folders) < 2:
        raise ValueError(f"{root}: {len(folders)} subfolders; expected one for each class, and at least two classes")
    return folders


def _read_class_list(path: Path) -> tuple[list[str], list[str]]:
    lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(lines) < 2 or any(len(words) < 2 for words in lines):
        raise ValueError(f"{path}: expected a line 'wnid name' for each class")
    wnids = [words[0] for words in lines]
    if len(set(wnids)) < len(wnids):
        raise ValueError(f"{path}: duplicate wnid")
    return wnids, [words[1].strip() for words in lines]


def _read_dogs_list(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    expected = f"{path}: expected a list of Stanford Dogs, a .mat file with 'file_list' and 'labels'"
    if not path.is_file():
        raise ValueError(f"{expected}; no such file")
    try:
        content: dict[str, Any] = scipy.io.loadmat(path)
        names = [str(cell.item()) for cell in content["file_list"].ravel()]
        labels = content["labels"].ravel().astype(np.int64)
    except Exception as error:  # scipy raises various types for damaged files
        raise ValueError(f"{expected} ({type(error).__name__}: {error})") from error
    if len(names) != len(labels) or not names:
        raise ValueError(f"{expected} of equal length, got {len(names)} and {len(labels)}")
    return names, labels
