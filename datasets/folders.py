"""Folders of images, one for each class or person, all together or in a folder for each split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.files import describe_folder
from datasets.images.read import IMAGE_SUFFIXES
from datasets.listing import ImageListing, is_hidden, kind_of, list_images
from datasets.splits import SPLITS, split_folders
from datasets.types import Split
from datasets.words import join_words, plural, some


@dataclass(frozen=True)
class FolderLayout:
    """Where the folders of the classes or persons are.

    Attributes:
        root: of the data.
        group: what a folder stands for: class or person.
        parents: by split, the folders that hold those of the groups, relative to root; "" is the root itself.
        warnings: what was passed over or taken one way of several.
        read: the name of a file beside the folders that is read or belongs to the data, such as a list of classes.
    """

    root: Path
    group: str
    parents: dict[Split, list[str]]
    warnings: list[str]
    read: str | None = None

    @property
    def has_splits(self) -> bool:
        """Whether the data have a folder for each split."""
        return self.parents != {"train": [""]}

    @property
    def first_split(self) -> Split:
        """The training images where there are some."""
        return next(split for split in SPLITS if split in self.parents)

    def groups(self, split: Split) -> list[str]:
        """The names of the groups' folders of a split, sorted."""
        return sorted({name for parent in self.parents[split] for name in subfolders(self.root / parent)})

    def key(self, name: str) -> str:
        """An image's name below the folder of its split, which its place in a division by hash depends on."""
        if not self.has_splits:
            return name
        parent, _, rest = name.partition("/")
        return rest if any(parent in parents for parents in self.parents.values()) else name

    def describe(self) -> str:
        """Such as "3 classes, train/ and valid/"."""
        text = plural(len(self.groups(self.first_split)), self.group)
        if not self.has_splits:
            return text
        return f"{text}, {join_words(f'{parent}/' for parents in self.parents.values() for parent in parents)}"


@dataclass(frozen=True)
class GroupedImages:
    """The images of a split.

    Attributes:
        names: (N,), relative to the root.
        groups: (N,), the folder of each.
        warnings: what was passed over.
    """

    names: list[str]
    groups: list[str]
    warnings: list[str]


def find_layout(root: Path, group: str) -> FolderLayout:
    """Look where the folders of the classes or persons are.

    Args:
        root: of the data.
        group: class or person.

    Raises:
        ValueError: if there is no such folder, or it cannot be told which of its subfolders are meant.
    """
    if not root.is_dir():
        what = "is a file" if root.is_file() else "no such folder"
        raise ValueError(f"{root}: {what}; expected a folder with a subfolder for each {group}")
    named = {split: [n for n in names if not is_hidden(n)] for split, names in split_folders(root).items()}
    splits = {name for names in named.values() for name in names}
    others = [name for name in subfolders(root) if name not in splits]
    whole: dict[Split, list[str]] = {"train": [""]}
    if not splits:
        return FolderLayout(root, group, whole, [])
    if not others:
        return FolderLayout(root, group, named, [])
    # A split beside other folders: it is one if it has the folders of the groups in it, else a group of that name.
    nested = {split: [n for n in names if subfolders(root / n)] for split, names in named.items()}
    nested = {split: names for split, names in nested.items() if names}
    passed_over = f"{root}: {{}} beside {join_words(f'{n}/' for names in nested.values() for n in names)}"
    if "train" in nested:
        rest = sorted({*others, *splits} - {name for names in nested.values() for name in names})
        return FolderLayout(root, group, nested, [f"{passed_over.format(some(rest, 'folder'))} passed over"])
    if nested:
        raise ValueError(
            f"{passed_over.format(some(others, 'folder'))}: cannot tell which are for training; expected the folder of "
            f"each {group} in train/"
        )
    line = f"{root}: {some(sorted(splits), 'folder')} named like a split, taken as a {group} for what is beside it"
    return FolderLayout(root, group, whole, [line])


def read_groups(layout: FolderLayout, split: Split) -> GroupedImages:
    """The images of a split in the order of their names; those in deeper folders belong to the group as well.

    Raises:
        ValueError: naming the folder, if it has no images in subfolders.
    """
    root, groups, warnings = layout.root, list[str](), list(layout.warnings)
    listing = ImageListing()
    for parent in layout.parents[split]:
        folders = subfolders(root / parent)
        in_parent = ImageListing()
        for folder in folders:
            in_group = list_images(root, f"{parent}/{folder}" if parent else folder)
            in_parent += in_group
            groups += [folder] * len(in_group.names)
        listing += in_parent
        beside = _files_in(root / parent, read=layout.read)
        loose = sum(beside.pop(kind, 0) for kind in IMAGE_SUFFIXES)
        if loose and not in_parent.names:
            raise ValueError(
                f"{root / parent}: {plural(loose, 'image')} in it, and none in a subfolder for each {layout.group}; "
                f"expected {layout.group.upper()}/*.jpg in it"
            )
        if loose:
            warnings.append(f"{root / parent}: {plural(loose, 'image')} passed over, in no folder of a {layout.group}")
        if not folders and len(layout.parents[split]) == 1:
            found = describe_folder(root / parent)
            raise ValueError(f"{root / parent}: no subfolders; expected one for each {layout.group}; {found}")
        warnings += _passed_over(root / parent, in_parent.passed_over + beside)
    if layout.has_splits:
        warnings += _passed_over(root, _files_in(root, read=layout.read))
    warnings += _same_but_for_case(root, layout.groups(split), layout.group)
    return GroupedImages(listing.names, groups, warnings)


def subfolders(root: Path) -> list[str]:
    """The names of the folders in a folder, sorted; without hidden ones and those of operating systems."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not is_hidden(entry.name))


def _files_in(folder: Path, *, read: str | None = None) -> Counter[str]:
    """The number of files of each kind in a folder itself; without the one that is read."""
    files = [entry.name for entry in os.scandir(folder) if is_hidden(entry.name) or not entry.is_dir()]
    return Counter("hidden" if is_hidden(name) else kind_of(name) for name in files if name != read)


def _passed_over(folder: Path, counts: Counter[str]) -> list[str]:
    return [f"{folder}: {ImageListing(passed_over=counts).line()}"] if counts else []


def _same_but_for_case(root: Path, groups: Sequence[str], group: str) -> list[str]:
    counts = Counter(name.casefold() for name in groups)
    same = [name for name in groups if counts[name.casefold()] > 1]
    return [f"{root}: {some(same, 'folder')} differ by case only; each is a {group} of its own"] if same else []
