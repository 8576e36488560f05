"""Class folders, with ImageNet's list of classes or without, and the format of a folder of labelled images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from datasets.classification.labelled import LabelledImages, join_labelled, validation_rows_of_classes
from datasets.classification.shards import open_labelled_shards
from datasets.classification.stanford_dogs import TRAIN_LIST, read_stanford_dogs
from datasets.folders import FolderLayout, find_layout, read_groups, subfolders
from datasets.shards.find import Shards, find_shards
from datasets.splits import Holdout, SplitData, hold_out
from datasets.stores import ImageFiles
from datasets.types import Split
from datasets.words import plural, some

Format = Literal["folder", "imagenet", "stanford_dogs", "shards"]
# With lines `wnid name`; the second comes with Kaggle's copy of ImageNet.
IMAGENET_CLASS_LISTS = ("classes.txt", "LOC_synset_mapping.txt")


def open_labelled(
    root: Path | Shards, *, format: Literal["auto", Format] = "auto", holdout: Holdout | None = None
) -> tuple[SplitData[LabelledImages], Format]:
    """The images of each split, and the format that was given or found.

    Args:
        root: the folder, or tar files.
        format: auto to look for tar files, and for the files of Stanford Dogs and of ImageNet.
        holdout: which images to hold out for validation, where the data have no validation part.

    Raises:
        ValueError: naming the file or folder that is not in the format.
    """
    if (shards := find_shards(root, format)) is not None:
        return open_labelled_shards(shards, holdout), "shards"
    assert isinstance(root, Path)
    found = find_format(root) if format == "auto" else format
    readers = {"folder": read_class_folders, "imagenet": read_imagenet, "stanford_dogs": read_stanford_dogs}
    return readers[found](root, holdout), found


def find_format(root: Path) -> Format:
    """The format of a folder: class folders, unless it has the list of Stanford Dogs, or one of its folders' names."""
    if (root / TRAIN_LIST).is_file():
        return "stanford_dogs"
    path = _class_list(root)
    if path is None or not root.is_dir():
        return "folder"
    try:
        wnids, _ = _read_class_list(path)
    except ValueError:  # a list of another kind, such as LabelImg's names of classes
        return "folder"
    layout = find_layout(root, "class")
    return "imagenet" if set(layout.groups(layout.first_split)) & set(wnids) else "folder"


def read_class_folders(root: Path, holdout: Holdout | None = None) -> SplitData[LabelledImages]:
    """Class folders: `root/train/<class>/*` with `val` or `test` or both, or only `root/<class>/*`.

    Names of splits are found in any case, also as training, valid, validation and so on. Where there is no validation
    part, a hash of `<class>/<file>` holds some images of each class out; the only image of a class is trained on.

    Raises:
        ValueError: naming the folder: missing, fewer than two classes, a class that is not in `train`.
    """
    layout = find_layout(root, "class")
    classes = layout.groups(layout.first_split)
    return _open(layout, classes, classes, "class folders", holdout)


def read_imagenet(root: Path, holdout: Holdout | None = None) -> SplitData[LabelledImages]:
    """ImageNet's layout: `root/train/<wnid>/*` and `root/val/<wnid>/*`.

    Class ids follow `classes.txt` or `LOC_synset_mapping.txt` (lines `wnid name`) if present, so that they are correct
    even if some classes have no images; else the sorted folders of `train`, or of `val` if there is no `train`.

    Raises:
        ValueError: naming the file or folder: missing, an invalid list, a folder that is not in the list.
    """
    path, layout = _class_list(root), find_layout(root, "class")
    if path is None:
        classes = layout.groups(layout.first_split)
        return _open(layout, classes, classes, "ImageNet without a list of classes", holdout)
    wnids, class_names = _read_class_list(path)
    layout = replace(layout, read=path.name)
    return _open(layout, wnids, class_names, f"ImageNet, {plural(len(wnids), 'class')} of {path.name}", holdout)


def _open(
    layout: FolderLayout, folders: Sequence[str], class_names: Sequence[str], what: str, holdout: Holdout | None
) -> SplitData[LabelledImages]:
    """Args: folders, class_names: by class id; what: the format, for the user; layout, holdout: see there."""
    class_id_of = {folder: class_id for class_id, folder in enumerate(folders)}
    readers = {split: partial(_read_split, layout, split, class_id_of, class_names) for split in layout.parents}
    data = SplitData(layout.root, f"{what}: {layout.describe()}", readers)
    rows = partial(validation_rows_of_classes, root=layout.root, key=layout.key)
    return hold_out(data, holdout, val_rows=rows, join=join_labelled)


def _read_split(
    layout: FolderLayout, split: Split, class_id_of: Mapping[str, int], class_names: Sequence[str]
) -> LabelledImages:
    root = layout.root
    unknown = [folder for folder in layout.groups(split) if folder not in class_id_of]
    if unknown:
        where = next(
            root / parent / unknown[0] for parent in layout.parents[split] if (root / parent / unknown[0]).is_dir()
        )
        raise ValueError(
            f"{where}: not one of the {some(list(class_id_of), 'class')}; expected "
            "the class folders of train, or of the list of classes"
        )
    images = read_groups(layout, split)
    warnings = images.warnings
    if split == "train":
        _require_two_classes(layout, images.groups)
        empty = sorted(set(layout.groups(split)) - set(images.groups))
        if empty:
            warnings.append(f"{_where(layout, split)}: {some(empty, 'class folder')} without images")
    class_ids = [class_id_of[group] for group in images.groups]
    return LabelledImages(
        ImageFiles(root, np.array([*map(os.fsencode, images.names)], np.bytes_)), class_ids, class_names, warnings
    )


def _require_two_classes(layout: FolderLayout, groups: Sequence[str]) -> None:
    with_images = sorted(set(groups))
    if len(with_images) > 1:
        return
    where, folders = _where(layout, "train"), layout.groups("train")
    inside = subfolders(where / folders[0]) if len(folders) == 1 else []
    hint = (
        f"; it has {some(inside, 'subfolder')}: if these are the classes, give {where / folders[0]}"
        if len(inside) > 1
        else ""
    )
    raise ValueError(
        f"{where}: {some(folders, 'subfolder')}, {len(with_images)} of them with images; expected one for each class, "
        f"and at least two classes{hint}"
    )


def _where(layout: FolderLayout, split: Split) -> Path:
    return layout.root / layout.parents[split][0]


def _class_list(root: Path) -> Path | None:
    return next((root / file for file in IMAGENET_CLASS_LISTS if (root / file).is_file()), None)


def _read_class_list(path: Path) -> tuple[list[str], list[str]]:
    expected = f"{path}: expected a line 'wnid name' for each class"
    try:
        lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{expected}, in UTF-8") from error
    if len(lines) < 2 or any(len(words) < 2 for words in lines):
        raise ValueError(expected)
    wnids = [words[0] for words in lines]
    if len(set(wnids)) < len(wnids):
        raise ValueError(f"{path}: duplicate wnid")
    return wnids, [words[1].strip() for words in lines]
