"""The sources of a prediction: millions of them take disk space, not memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from tasks.common.prediction.database import Database, decode_name, encode_name, temporary_database
from tasks.common.prediction.sources import Live, Picture, Source, Video


class SourceList(Sequence[Source]):
    """Sources in order, each name once; a slice of it is a view."""

    def __init__(self) -> None:
        """An empty list."""
        # Rows are numbered from 1 without gaps; a source without a location is the file of its name.
        self._database: Database = temporary_database(
            "CREATE TABLE sources (number INTEGER PRIMARY KEY, name BLOB UNIQUE, location BLOB, is_video INTEGER)"
        )
        self._others: dict[str, Source] = {}  # cameras, streams and images in memory
        self._rows = range(1, 1)

    def extend(self, sources: Iterable[Source]) -> None:
        """Append those whose names are new."""
        count = self._database.executemany(
            "INSERT OR IGNORE INTO sources (name, location, is_video) VALUES (?, ?, ?)", map(self._as_row, sources)
        ).rowcount
        self._rows = range(self._rows.start, self._rows.stop + max(0, count))  # -1 for no sources at all

    def _as_row(self, source: Source) -> tuple[bytes, bytes | None, bool]:
        location = None
        if not isinstance(source, Picture | Video) or isinstance(source.location, bytes):
            self._others.setdefault(source.name, source)
        elif str(source.location) != source.name or not isinstance(source.location, Path):
            location = encode_name(str(source.location))
        return encode_name(source.name), location, isinstance(source, Video)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Source: ...

    @overload
    def __getitem__(self, index: slice) -> SourceList: ...

    def __getitem__(self, index: int | slice) -> Source | SourceList:
        if isinstance(index, slice):
            part = SourceList.__new__(SourceList)
            part._database, part._others, part._rows = self._database, self._others, self._rows[index]
            return part
        (row,) = self._read(range(self._rows[index], self._rows[index] + 1))
        return row

    def __iter__(self) -> Iterator[Source]:
        return self._read(self._rows)

    def _read(self, rows: range) -> Iterator[Source]:
        for name, location, is_video in self._database.execute(
            "SELECT name, location, is_video FROM sources WHERE number >= ? AND number < ? ORDER BY number",
            (rows.start, rows.stop),
        ):
            text = decode_name(name)
            if text in self._others:
                yield self._others[text]
            else:
                place = Path(text) if location is None else decode_name(location)
                yield Video(text, place) if is_video else Picture(text, place)

    @property
    def live(self) -> Live | None:
        """A camera or stream among them."""
        return next((source for source in self._others.values() if isinstance(source, Live)), None)

    def part(self, rank: int, size: int) -> SourceList:
        """The part of one of `size` processes; the parts one after the other are all sources in order."""
        count = len(self)
        return self[count * rank // size : count * (rank + 1) // size]

    def describe(self) -> str:
        """The number and a hash of the names, by which processes see that they have the same."""
        digest = hashlib.sha256()
        for source in self:
            digest.update(encode_name(source.name) + b"\0")
        return f"{len(self):,}, SHA-256 {digest.hexdigest()[:16]}"
