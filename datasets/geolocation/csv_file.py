"""Photos and their coordinates from a CSV file."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from datasets.geolocation.coordinates import Photos, check_coordinates, join_photos, named_splits
from datasets.listing import is_hidden
from datasets.locate import folders_below, locate_images, unlisted
from datasets.stores import ImageFiles
from datasets.tables import SUFFIXES, Table, by_split, columns_of, folders_for, has_value, open_table, shorten, to_float
from datasets.types import Split
from datasets.words import plural, some

# The usual names of columns, the most likely first; without case and punctuation.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": (
        *("img_id", "image_id", "file_name", "file", "file_path", "image_path", "image_file", "image_name", "image"),
        *("img", "path", "photo", "picture", "photo_id", "id", "key", "name"),
    ),
    "lat": ("lat", "latitude", "lat_deg", "latitude_deg", "gps_latitude", "gps_lat", "y"),
    "lng": (
        *("lon", "lng", "long", "longitude", "lng_deg", "lon_deg", "longitude_deg"),
        *("gps_longitude", "gps_lon", "gps_lng", "gps_long", "x"),
    ),
    "split": ("split", "subset", "partition", "set"),
    "author": ("author", "user", "user_id", "user_name", "photographer", "owner"),
}
USUAL_NAME = "places.csv"  # which goes before others
REQUIRED = frozenset({"image", "lat", "lng"})


def open_csv(root: Path, path: Path | None, *, images: str | None, columns: Mapping[str, str]) -> tuple[Photos, str]:
    """Photos of the CSV file in a folder, or of one for each split, such as `train.csv` and `val.csv`.

    Args:
        root: of the data.
        path: the file; None to look for it.
        images: see `read_csv`.
        columns: see `read_csv`.

    Returns:
        The photos, and what they are, for the user.

    Raises:
        ValueError: if there are several files, or as `read_csv` does.
    """
    files = [path] if path is not None else _tables(root)
    taken = _choose(root, files, columns)
    read = {split: read_csv(root, file, images=images, columns=columns, split=split) for split, file in taken}
    whole = [photos for split, (photos, _) in read.items() if split is None]
    photos = whole[0] if whole else join_photos({split: part for split, (part, _) in read.items() if split is not None})
    rest = [file.name for file in files if file not in {path for _, path in taken}]
    if rest:
        photos.warnings.append(f"{root}: {some(rest, 'CSV file')} passed over")
    assert isinstance(photos.images, ImageFiles)
    photos.warnings.extend(unlisted(photos.images, photos.left_out))
    return photos, "; ".join(found for _, found in read.values())


def has_tables(root: Path) -> bool:
    """Whether there is a CSV file in a folder."""
    return bool(_tables(root))


def _tables(root: Path) -> list[Path]:
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in files if not is_hidden(path.name)]


def _choose(root: Path, files: Sequence[Path], columns: Mapping[str, str]) -> Sequence[tuple[Split | None, Path]]:
    """Of several files the usual one, those of the splits, or the only one with coordinates.

    Returns:
        The files, each with its split, or a single one with None.

    Raises:
        ValueError: if it cannot be told which one.
    """
    if len(files) == 1:
        return [(None, files[0])]
    score = partial(_score, given=columns)
    fitting = [file for file in files if score(open_table(file, score)) == len(REQUIRED)]
    usual = [file for file in fitting if file.name == USUAL_NAME]
    of_split = by_split(fitting)
    if of_split and not usual:
        return [*of_split.items()]
    if len(fitting) > 1 and not usual:
        names = ", ".join(file.name for file in fitting[:3])
        raise ValueError(
            f"{root}: {len(fitting)} CSV files with coordinates ({names}); name one with data.csv (--csv of python -m "
            "datasets)"
        )
    return [(None, (usual or fitting or files)[0])]


def read_csv(
    root: Path, path: Path, *, images: str | None, columns: Mapping[str, str], split: Split | None = None
) -> tuple[Photos, str]:
    """Photos of a CSV file with any delimiter, in any encoding of Excel, with any names of columns.

    A photo without coordinates is left out and counted. One whose file is missing is kept, and counts as unreadable.

    Args:
        root: of the data.
        path: the file; its first line names the columns, in any order; further columns are ignored.
        images: the folder that the names of files are relative to; None to look for it.
        columns: names of the columns that `COLUMNS` does not know, by its keys.
        split: that all photos are for, which says where their files are likely to be; None if there is none.

    Returns:
        The photos, and what they are, for the user.

    Raises:
        ValueError: naming file and line: no such columns, no numbers, coordinates out of range, no images.
    """
    table = open_table(path, partial(_score, given=columns))
    index_of = columns_of(table, COLUMNS, columns, setting="data.columns")
    if not index_of.keys() >= REQUIRED:
        lacking = " and ".join(thing for thing in COLUMNS if thing in REQUIRED and thing not in index_of)
        raise ValueError(
            f"{path}: its first line has no column for {lacking}, got {shorten(table.header)}; data.columns names "
            "them, such as {image: photo_name, lat: y_deg, lng: x_deg}"
        )
    coordinates, texts, empty = _read_columns(table, index_of)
    names = texts["image"]
    warnings = []
    if empty:
        count = plural(len(empty), "row")
        warnings.append(f"{path}: {count} without coordinates left out, the first in line {next(iter(empty))}")
    if not names:
        raise ValueError(f"{path}: it has no photos with coordinates")
    lat_deg, lng_deg = np.array(coordinates["lat"]), np.array(coordinates["lng"])
    check_coordinates(path, lat_deg, lng_deg, names.__getitem__)
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{path}: {twice} is in more than one row; expected each photo once")
    beside = os.path.relpath(path.parent, root)
    folders = folders_below(root, os.path.join(beside, "images"), beside) if images is None else [images]
    try:
        files, lines = locate_images(root, names, path, folders=folders_for(split, folders))
    except ValueError as error:
        raise ValueError(f"{error}; data.images names their folder") from error
    splits, line = named_splits(path, texts.get("split"))
    author = np.array(texts["author"]) if "author" in texts else None
    warnings += [*lines, *([line] if line else [])]
    photos = Photos(files, lat_deg, lng_deg, splits, author, warnings, list(empty.values()))
    used = ", ".join(f"{thing} {table.header[index]}" for thing, index in index_of.items())
    return photos, f"{path.name} ({table.dialect}; columns: {used}), images in {Path(files.id(0)).parent}"


def _score(table: Table, given: Mapping[str, str]) -> int:
    """How many of the required columns a table has."""
    known = {thing: [*([given[thing]] if thing in given else []), *names] for thing, names in COLUMNS.items()}
    return sum(table.column(known[thing]) is not None for thing in REQUIRED)


def _read_columns(
    table: Table, index_of: Mapping[str, int]
) -> tuple[dict[str, array[float]], dict[str, list[str]], dict[int, str]]:
    """Coordinates as arrays, the other columns as text, and the photos without coordinates by line."""
    coordinates = {"lat": array("d"), "lng": array("d")}
    texts: dict[str, list[str]] = {thing: [] for thing in index_of if thing not in coordinates}
    empty = {}
    for number, cells in table.rows():
        try:
            found = [cells[index_of[thing]] for thing in coordinates]
            others = [cells[index_of[thing]].strip() for thing in texts]
            if not all(map(has_value, found)):
                empty[number] = cells[index_of["image"]].strip()
                continue
            numbers = [to_float(cell) for cell in found]
        except (ValueError, IndexError) as error:
            names = " and ".join(table.header[index_of[thing]] for thing in coordinates)
            raise ValueError(
                f"{table.path}, line {number}: expected {len(table.header)} columns with numbers in {names}, got "
                f"{shorten(cells)}"
            ) from error
        for values, value in zip(coordinates.values(), numbers, strict=True):
            values.append(value)
        for column, text in zip(texts.values(), others, strict=True):
            column.append(text)
    return coordinates, texts, empty
