"""Photos and their coordinates from a CSV file."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.geolocation.coordinates import Photos, check_coordinates, named_splits
from datasets.listing import is_hidden
from datasets.locate import folders_below, locate_images
from datasets.tables import SUFFIXES, Table, columns_of, has_value, open_table, shorten, to_float
from datasets.words import plural

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


def find_csv(root: Path) -> Path | None:
    """The CSV file of places in a folder; None if there is none.

    Raises:
        ValueError: if there are several.
    """
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    files = [path for path in files if not is_hidden(path.name)]
    fitting = [path for path in files if _score(open_table(path, _score)) == len(REQUIRED)] if len(files) > 1 else files
    usual = [path for path in fitting if path.name == USUAL_NAME]
    if len(fitting) > 1 and not usual:
        names = ", ".join(path.name for path in fitting[:3])
        raise ValueError(f"{root}: {len(fitting)} CSV files with coordinates ({names}); data.csv names one")
    return next(iter(usual or fitting or files), None)


def read_csv(root: Path, path: Path, *, images: str | None, columns: Mapping[str, str]) -> tuple[Photos, str]:
    """Photos of a CSV file with any delimiter, in any encoding of Excel, with any names of columns.

    A photo without coordinates is left out and counted. One whose file is missing is kept, and counts as unreadable.

    Args:
        root: of the data.
        path: the file; its first line names the columns, in any order; further columns are ignored.
        images: the folder that the names of files are relative to; None to look for it.
        columns: names of the columns that `COLUMNS` does not know, by its keys.

    Returns:
        The photos, and what they are, for the user.

    Raises:
        ValueError: naming file and line: no such columns, no numbers, coordinates out of range, no images.
    """
    table = open_table(path, _score if not columns else lambda table: _score(table, columns))
    index_of = columns_of(table, COLUMNS, columns, setting="data.columns")
    if not index_of.keys() >= REQUIRED:
        lacking = " and ".join(thing for thing in COLUMNS if thing in REQUIRED and thing not in index_of)
        raise ValueError(
            f"{path}: its first line has no column for {lacking}, got {shorten(table.header)}; data.columns names "
            "them, such as {image: photo_name, lat: y_deg, lng: x_deg}"
        )
    coordinates, texts, empty = _read_columns(table, index_of)
    names = texts["image"]
    warnings = (
        [f"{path}: {plural(len(empty), 'row')} without coordinates left out, the first in line {empty[0]}"]
        if empty
        else []
    )
    if not names:
        raise ValueError(f"{path}: it has no photos with coordinates")
    lat_deg, lng_deg = np.array(coordinates["lat"]), np.array(coordinates["lng"])
    check_coordinates(path, lat_deg, lng_deg, names)
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{path}: {twice} is in more than one row; expected each photo once")
    beside = os.path.relpath(path.parent, root)
    folders = folders_below(root, os.path.join(beside, "images"), beside) if images is None else [images]
    try:
        files, lines = locate_images(root, names, path, folders=folders)
    except ValueError as error:
        raise ValueError(f"{error}; data.images names their folder") from error
    splits, line = named_splits(path, texts.get("split"))
    author = np.array(texts["author"]) if "author" in texts else None
    photos = Photos(files, lat_deg, lng_deg, splits, author, [*warnings, *lines, *([line] if line else [])])
    used = ", ".join(f"{thing} {table.header[index]}" for thing, index in index_of.items())
    return photos, f"{path.name} ({table.dialect}; columns: {used}), images in {Path(files.id(0)).parent}"


def _score(table: Table, given: Mapping[str, str] | None = None) -> int:
    """How many of the required columns a table has."""
    known = {thing: [*([given[thing]] if given and thing in given else []), *names] for thing, names in COLUMNS.items()}
    return sum(table.column(known[thing]) is not None for thing in REQUIRED)


def _read_columns(
    table: Table, index_of: Mapping[str, int]
) -> tuple[dict[str, array[float]], dict[str, list[str]], list[int]]:
    """Coordinates as arrays, the other columns as text, and the lines without coordinates."""
    coordinates = {"lat": array("d"), "lng": array("d")}
    texts: dict[str, list[str]] = {thing: [] for thing in index_of if thing not in coordinates}
    empty = []
    for number, cells in table.rows():
        try:
            found = [cells[index_of[thing]] for thing in coordinates]
            others = [cells[index_of[thing]].strip() for thing in texts]
            if not all(map(has_value, found)):
                empty.append(number)
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
