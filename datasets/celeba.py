"""Images with binary attributes: CelebA as it is published and as Kaggle has it, or any CSV file of attributes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.files import describe_folder
from datasets.listing import is_hidden
from datasets.locate import folders_below, locate_images, unlisted
from datasets.shards.attributes import attribute_names, read_attribute_records
from datasets.shards.find import Shards, find_shards
from datasets.shards.records import open_shards
from datasets.splits import SPLITS, Holdout, SplitData, hold_out, split_named, validation_rows
from datasets.stores import ImageFiles, ImageStore, Rows, StoredExamples, join_images
from datasets.tables import SUFFIXES, Table, by_split, folders_for, open_table, shorten
from datasets.types import Attributes, Split
from datasets.words import first_of, join_words, plural, some

IMAGES, ATTRIBUTE_LIST, PARTITION_LIST = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
EXPECTED = f"CelebA's {ATTRIBUTE_LIST}, or a CSV file with 'attr' in its name, one column for each attribute"
PARTITION_IDS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
IMAGE_COLUMNS = ("image_id", "image", "file", "filename", "file_name", "img_id", "path", "id", "name")
PARTITION_COLUMNS = ("partition", "split", "subset")
VALUES = {"1": 1, "1.0": 1, "-1": -1, "-1.0": -1, "0": 0, "0.0": 0}
INDEX_COLUMN = re.compile(r"(unnamed: ?\d+)?", re.IGNORECASE)  # written by pandas


class AttributeImages(StoredExamples[Attributes]):
    """Images and their attributes.

    Attributes:
        attribute_names: by column, K.
        values: bool (N, K); float32 with NaN where a column is unknown, see `with_attributes`.
    """

    def __init__(
        self,
        images: ImageStore,
        values: NDArray[np.bool_] | NDArray[np.float32],
        attribute_names: Sequence[str],
        warnings: Sequence[str] = (),
    ) -> None:
        """Args: images: N; values: (N, K); attribute_names: by column; warnings: from the reader."""
        super().__init__(images, warnings)
        self.values = values
        self.attribute_names = tuple(attribute_names)

    def truth(self, index: int) -> Attributes:
        """The attributes of an image, without reading it."""
        return Attributes(self.values[index].astype(np.float32))

    def with_attributes(self, names: Sequence[str]) -> AttributeImages:
        """The images with these attributes as columns; one that the data do not have is NaN, neither true nor false."""
        values = np.full((len(self.values), len(names)), np.nan, np.float32)
        for column, name in enumerate(names):
            if name in self.attribute_names:
                values[:, column] = self.values[:, self.attribute_names.index(name)]
        renamed = AttributeImages(self.images, values, names, self.warnings)
        renamed.decoding = self.decoding
        return renamed

    def select(self, rows: Rows) -> AttributeImages:
        """The images of these rows, in that order."""
        selected = AttributeImages(self.images.select(rows), self.values[rows], self.attribute_names, self.warnings)
        selected.decoding = self.decoding
        return selected


class _Attributes(NamedTuple):
    """A list of attributes: names (N,), values (N, K), names of the attributes, and splits if it has them."""

    names: list[str]
    values: NDArray[np.bool_]
    attribute_names: list[str]
    splits: list[Split] | None


class _Part(NamedTuple):
    """The images of a list, the split of each, and for the user by what they are divided."""

    images: AttributeImages
    splits: NDArray[np.str_]
    divided_by: str


def open_attributes(root: Path | Shards, holdout: Holdout | None = None) -> SplitData[AttributeImages]:
    """The images of each split of a list of attributes and a list of partitions, both found by looking below `root`.

    Or those of tar files, see `shards/attributes.py`.

    The official list has a count, a line of attribute names, and a line for each image with its name and -1 or 1 for
    each attribute; the partitions have lines `name 0`, 1 or 2 for train, val, test. Fields are separated by whitespace.
    A CSV file has the same columns, with 0 or -1 for absent ones, and perhaps one named `split` or `partition`; there
    may be one for each split. Without partitions a hash of the name holds a part out.

    Raises:
        ValueError: naming file and line: missing or invalid lists, a wrong number of values, an image without a
            partition, no images.
    """
    if (shards := find_shards(root)) is not None:
        read = partial(_read_shards, attribute_names(shards))
        rows = partial(_validation_rows, shards.root)
        return hold_out(open_shards(shards, read), holdout, val_rows=rows, join=_join)
    assert isinstance(root, Path)
    lists, rest = _find_lists(root)
    parts = {path: _read_list(root, path, split) for path, split in lists.items()}
    first, *others = parts
    for path in others:
        if parts[path].images.attribute_names != parts[first].images.attribute_names:
            raise ValueError(f"{path}: its attributes are others than in {first}; expected the same columns")
    whole = _join([part.images for part in parts.values()])
    if rest:
        whole.warnings.append(f"{root}: {some(rest, 'CSV file')} passed over")
    assert isinstance(whole.images, ImageFiles)
    whole.warnings += unlisted(whole.images)
    of_split = np.concatenate([part.splits for part in parts.values()])
    rows_of = {split: np.flatnonzero(of_split == split) for split in SPLITS}
    readers = {split: partial(whole.select, rows) for split, rows in rows_of.items() if len(rows)}
    names = join_words([str(path.relative_to(root)) for path in parts])
    count = f"{plural(len(whole.attribute_names), 'attribute')} of {plural(len(whole), 'image')}"
    found = f"{names}: {count}{parts[first].divided_by}"
    return hold_out(SplitData(root, found, readers), holdout, val_rows=partial(_validation_rows, root), join=_join)


def _read_shards(names: list[str], shards: Shards) -> AttributeImages:
    records = read_attribute_records(names, shards)
    return AttributeImages(records.images, np.concatenate(records.values), names, records.warnings)


def has_attributes(root: Path) -> bool:
    """Whether a folder has CelebA's list of attributes, or a CSV file with `attr` in its name."""
    return any(
        path.stem.lower() == Path(ATTRIBUTE_LIST).stem
        or (path.suffix.lower() in SUFFIXES and "attr" in path.stem.lower())
        for path in _lists_below(root)
    )


def _find_lists(root: Path) -> tuple[dict[Path, Split | None], list[str]]:
    """The list of attributes: the official one, else one with `attr` in its name, else the only CSV file.

    Returns:
        The list, or one for each split, such as `train.csv` and `val.csv`, with the split; names of CSV files left out.
    """
    tables = [path for path in _lists_below(root) if "partition" not in path.name.lower()]
    for fits in (
        lambda path: path.stem.lower() == Path(ATTRIBUTE_LIST).stem,
        lambda path: "attr" in path.name.lower(),
        lambda path: path.suffix.lower() in SUFFIXES,
    ):
        found = [path for path in tables if fits(path)]
        if len(found) == 1:
            return {found[0]: None}, []
        with_attributes = [path for path in found if path.suffix.lower() not in SUFFIXES or _open_csv(path)[2]]
        of_split = by_split(with_attributes)
        if of_split or len(with_attributes) == 1:
            lists: dict[Path, Split | None] = {path: split for split, path in of_split.items()}
            lists = lists or {with_attributes[0]: None}
            return lists, [path.name for path in found if path not in lists]
        if found:
            names = first_of([str(path.relative_to(root)) for path in found])
            raise ValueError(
                f"{root}: {len(found)} lists of attributes ({names}); expected one, or one for each split such as "
                "train.csv and val.csv"
            )
    raise ValueError(f"{root}: no list of attributes; expected {EXPECTED}; {describe_folder(root)}")


def _read_list(root: Path, path: Path, split: Split | None) -> _Part:
    """The images of a list; all of one split, or divided by the list, or by one of partitions."""
    listed = _read_attributes(path)
    first = (IMAGES, os.path.join(IMAGES, IMAGES), os.path.relpath(path.parent, root))
    folders = folders_for(split, folders_below(root, *first))
    files, warnings = locate_images(root, listed.names, path, folders=folders)
    partition_list = _find_partitions(root)
    splits: list[Split]
    if split is not None or (listed.splits is None and partition_list is None):
        splits, divided_by = [split or "train"] * len(files), ""
    elif listed.splits is not None:
        splits, divided_by = listed.splits, f", divided by {path.name}"
    else:
        assert partition_list is not None
        splits, lines = _read_partitions(partition_list, listed.names)
        warnings, divided_by = [*warnings, *lines], f", divided by {partition_list.name}"
    return _Part(AttributeImages(files, listed.values, listed.attribute_names, warnings), np.array(splits), divided_by)


def _find_partitions(root: Path) -> Path | None:
    found = [path for path in _lists_below(root) if "partition" in path.name.lower()]
    official = [path for path in found if path.stem.lower() == Path(PARTITION_LIST).stem]
    return next(iter(official or found), None)


def _lists_below(root: Path) -> list[Path]:
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; expected one with {EXPECTED}")
    return [
        Path(entry.path)
        for folder in folders_below(root)
        for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        if Path(entry.name).suffix.lower() in (*SUFFIXES, ".txt") and entry.is_file() and not is_hidden(entry.name)
    ]


def _read_attributes(path: Path) -> _Attributes:
    if path.suffix.lower() in SUFFIXES:
        return _read_csv(path)
    lines = _lines(path)
    if len(lines) < 3 or not re.fullmatch("[0-9]{1,9}", lines[0].strip()):
        raise ValueError(f"{path}: line 1: expected the number of images, then a line of attribute names")
    if len(lines) - 2 != int(lines[0]):
        raise ValueError(f"{path}: line 1 gives {plural(int(lines[0]), 'image')}, but there are {len(lines) - 2}")
    attribute_names = lines[1].split()
    _require_unique(path, attribute_names)
    rows = ((number, line.split()) for number, line in enumerate(lines[2:], 3))
    names, values = _parse(path, rows, 0, range(1, 1 + len(attribute_names)), 1 + len(attribute_names))
    return _Attributes(names, values, attribute_names, None)


def _read_csv(path: Path) -> _Attributes:
    table, image, columns = _open_csv(path)
    partition = table.column(PARTITION_COLUMNS)
    attribute_names = [table.header[index] for index in columns]
    if not attribute_names:
        raise ValueError(f"{path}: expected a column of images and one for each attribute, got {shorten(table.header)}")
    _require_unique(path, attribute_names)
    rows = list(table.rows())
    names, values = _parse(path, rows, image, columns, len(table.header))
    splits = None if partition is None else [_to_split(path, number, cells[partition]) for number, cells in rows]
    return _Attributes(names, values, attribute_names, splits)


def _open_csv(path: Path) -> tuple[Table, int, list[int]]:
    """A table, the index of its column of images, and those of its attributes."""
    table = open_table(path, lambda table: table.column(IMAGE_COLUMNS) is not None)
    image = table.column(IMAGE_COLUMNS) or 0
    others = (image, table.column(PARTITION_COLUMNS))
    columns = [
        index for index, name in enumerate(table.header) if index not in others and not INDEX_COLUMN.fullmatch(name)
    ]
    return table, image, columns


def _parse(
    path: Path, rows: Iterable[tuple[int, list[str]]], image: int, columns: Sequence[int], width: int
) -> tuple[list[str], NDArray[np.bool_]]:
    """Image names, and (N, K) values of the columns."""
    names, values, kinds = [], [], set()
    for number, words in rows:
        if len(words) != width:
            raise ValueError(
                f"{path}: line {number}: expected a name and {plural(len(columns), 'value')}, got "
                f"{plural(len(words), 'word')}"
            )
        row = [VALUES.get(words[column].strip(), 2) for column in columns]
        if 2 in row:
            invalid = words[columns[row.index(2)]]
            raise ValueError(f"{path}: line {number}: expected -1 or 1 for each attribute, or 0 or 1, got {invalid!r}")
        kinds.update(row)
        names.append(words[image].strip())
        values.append(row)
    if not names:
        raise ValueError(f"{path}: it has no images")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: duplicate image name")
    if {-1, 0} <= kinds:
        raise ValueError(f"{path}: absent attributes are -1 in some places and 0 in others; expected one of the two")
    return names, np.array(values, np.int8) == 1


def _read_partitions(path: Path, names: Sequence[str]) -> tuple[list[Split], list[str]]:
    """The split of each image, and a warning if the list has others."""
    if path.suffix.lower() in SUFFIXES:
        table = open_table(path, lambda table: table.column(PARTITION_COLUMNS) is not None)
        rows = list(table.rows())
    else:
        rows = [(number, line.split()) for number, line in enumerate(_lines(path), 1)]
    found = {}
    for number, words in rows:
        if len(words) != 2:
            raise ValueError(
                f"{path}: line {number}: expected an image and 0 (train), 1 (val) or 2 (test): {shorten(words)}"
            )
        found[words[0].strip()] = _to_split(path, number, words[1])
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path}: {len(missing)} of {len(names)} images not listed; the first is {missing[0]}")
    unknown = [*(found.keys() - set(names))]
    lines = [f"{path}: {plural(len(unknown), 'line')} passed over, of images without attributes"] if unknown else []
    return [found[name] for name in names], lines


def _to_split(path: Path, number: int, word: str) -> Split:
    split_of = {str(partition_id): split for split, partition_id in PARTITION_IDS.items()}
    split = split_of.get(word.strip().removesuffix(".0")) or split_named(word)
    if split is None:
        raise ValueError(f"{path}: line {number}: expected an image and 0 (train), 1 (val) or 2 (test): {word!r}")
    return split


def _require_unique(path: Path, attribute_names: Sequence[str]) -> None:
    if len(set(attribute_names)) < len(attribute_names):
        raise ValueError(
            f"{path}: line 2: duplicate attribute name" if path.suffix == ".txt" else f"{path}: duplicate column"
        )


def _lines(path: Path) -> list[str]:
    """The lines that are not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error})") from error
    return [line for line in text.splitlines() if line.strip()]


def _validation_rows(root: Path | str, source: AttributeImages, holdout: Holdout) -> NDArray[np.bool_]:
    names = [Path(source.images.name(row)).name for row in range(len(source))]
    if len(set(names)) < 2 and (holdout.start, holdout.stop) != (0, 1):
        raise ValueError(f"{root}: one image only, so that none can be held out for validation")
    return validation_rows(names, holdout)


def _join(parts: Sequence[AttributeImages]) -> AttributeImages:
    warnings = list(dict.fromkeys(line for part in parts for line in part.warnings))
    values = np.concatenate([part.values for part in parts])
    return AttributeImages(join_images([part.images for part in parts]), values, parts[0].attribute_names, warnings)
