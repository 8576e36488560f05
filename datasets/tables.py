"""CSV files as they are exported: any delimiter, decimal commas, and the encodings of Excel."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.splits import SPLITS, split_named
from datasets.types import Split

SUFFIXES = (".csv", ".tsv")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ENCODINGS = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
ENCODINGS |= {"cp1252": "Windows-1252", "latin-1": "Latin-1"}
CHUNK = 1 << 20
NO_VALUE = frozenset({"", "nan", "na", "n/a", "null", "none", "-"})


@dataclass(frozen=True)
class Table:
    """A CSV file whose first line names the columns; its rows are read one by one, so that large files need no memory.

    Attributes:
        path: the file.
        encoding: Python's name.
        delimiter: one character.
        header: the names of the columns.
    """

    path: Path
    encoding: str
    delimiter: str
    header: list[str]

    @property
    def dialect(self) -> str:
        """For the user, such as "Windows-1252, semicolons"."""
        return f"{ENCODINGS[self.encoding]}, {DELIMITERS[self.delimiter]}"

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The number of each line that is not empty, and its cells.

        Raises:
            ValueError: naming the file, if it is not a CSV file.
        """
        with _reader(self.path, self.encoding, self.delimiter) as reader:
            if self.header != _first_row(reader):
                raise ValueError(f"{self.path}: changed while it was read")
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells

    def column(self, names: Sequence[str]) -> int | None:
        """The index of the first of these names that is a column, in any case and with any punctuation."""
        index_of = {_plain(name): index for index, name in reversed(list(enumerate(self.header)))}
        return next((index_of[_plain(name)] for name in names if _plain(name) in index_of), None)


def open_table(path: Path, score: Callable[[Table], Any]) -> Table:
    """Find the encoding and the delimiter of a CSV file.

    Not by `csv.Sniffer`, which guesses from the frequency of characters, and takes the decimal comma of
    `a.jpg;52,5;13,4` for a delimiter. Here the delimiter is the one with which the first line has the columns.

    Args:
        path: the file.
        score: how well a table fits; of equal ones the first is taken.

    Raises:
        ValueError: naming the file, if it is missing or not text.
    """
    encoding = _encoding(path)
    tables = []
    for delimiter in DELIMITERS:
        with _reader(path, encoding, delimiter) as reader:
            tables.append(Table(path, encoding, delimiter, _first_row(reader)))
    return max(tables, key=lambda table: (score(table), len(table.header)))


def by_split(paths: Sequence[Path]) -> dict[Split, Path]:
    """The files whose names have the word of a split, such as `train.csv` and `places_test.csv`.

    Returns:
        Those for train and at least one other split; none if several are for one split.
    """
    found = [(split, path) for path in paths if (split := _split_in(path.stem)) is not None]
    files = dict(found)
    if len(files) < len(found) or len(files) < 2 or "train" not in files:
        return {}
    return {split: files[split] for split in SPLITS if split in files}


def folders_for(split: Split | None, folders: Sequence[str]) -> list[str]:
    """The folders that the images of a split may be in, the most likely first, such as `train/` for train.

    Args:
        split: None for those of all splits, whose order is kept.
        folders: relative to the root of the data.
    """

    def rank(folder: str) -> tuple[bool, ...]:
        own = _split_in(folder)
        return own != split, own is not None, own != "train"

    return list(folders) if split is None else sorted(folders, key=rank)


def _split_in(name: str) -> Split | None:
    """The split that is a word of a name; None if there is no such word, or several."""
    named = {split for word in re.split(r"[\W_]+", name) if (split := split_named(word)) is not None}
    return named.pop() if len(named) == 1 else None


def to_float(cell: str) -> float:
    """A number with a decimal point or comma.

    Raises:
        ValueError: if it is none.
    """
    try:
        return float(cell)
    except ValueError:
        return float(cell.replace(",", "."))


def has_value(cell: str) -> bool:
    """Whether a cell is filled in."""
    return cell.strip().lower() not in NO_VALUE


def columns_of(
    table: Table, usual: Mapping[str, Sequence[str]], given: Mapping[str, str], *, setting: str
) -> dict[str, int]:
    """The index of the column for each thing that the table has.

    Args:
        table: the file.
        usual: the usual names of the column for each thing, the most likely first.
        given: names from the user, which go first.
        setting: that they come from.

    Raises:
        ValueError: if a given name is no column, or is for a thing that is not known.
    """
    found = {}
    for thing, name in given.items():
        index = table.column([name])
        if thing not in usual or index is None:
            what = f"there is no column {name!r}" if thing in usual else f"{thing!r} is not one of {', '.join(usual)}"
            raise ValueError(f"{table.path}: {setting}: {what}; its columns are {shorten(table.header)}")
        found[thing] = index
    for thing, names in usual.items():
        index = table.column(names)
        if thing not in found and index is not None and index not in found.values():
            found[thing] = index
    return found


def shorten(cells: Sequence[str]) -> str:
    """Cells for a message."""
    return repr(", ".join(cells)[:200])


def _plain(name: str) -> str:
    """In lower case, without punctuation; but a name of punctuation alone is kept."""
    return re.sub(r"[\W_]+", "", name.lower()) or name.strip()


def _first_row(reader: Any) -> list[str]:
    """The names of the columns; Excel's line `sep=;` before them is passed over."""
    cells: list[str] = next(reader, [])
    if cells and re.fullmatch("sep=.?", cells[0].strip(), re.IGNORECASE):
        cells = next(reader, [])
    return [cell.strip() for cell in cells]


@contextmanager
def _reader(path: Path, encoding: str, delimiter: str) -> Iterator[Any]:
    try:
        with path.open(newline="", encoding=encoding) as file:
            yield csv.reader(file, delimiter=delimiter)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a CSV file ({error})") from error


def _encoding(path: Path) -> str:
    """UTF-8 if the whole file is, else one of Excel's."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(CHUNK)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if b"\0" in start[:1000]:  # every other byte of English text
            return "utf-16-le" if start[1:2] == b"\0" else "utf-16-be"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while start:
                decoder.decode(start)
                start = file.read(CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            pass
        else:
            return "utf-8-sig"
        file.seek(0)
        undefined = bytes.fromhex("818d8f909d")  # of Windows-1252
        while chunk := file.read(CHUNK):
            if any(byte in chunk for byte in undefined):
                return "latin-1"
    return "cp1252"
