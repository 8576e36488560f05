"""Temporary databases on disk, for lists of names that may have millions of entries."""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def temporary_database(*statements: str) -> Database:
    """A new database that is gone when it is closed; several threads may use it one after the other.

    Args:
        statements: that make its tables.
    """
    database = sqlite3.connect("", factory=Database, isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA journal_mode = OFF", "BEGIN", *statements):
        database.execute(statement)
    return database


class Database(sqlite3.Connection):
    """A connection that reports a full disk as other files do."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:  # type: ignore[override]
        """Run a statement.

        Raises:
            OSError: if the disk is full.
        """
        with _explain_full_disk():
            return super().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> sqlite3.Cursor:  # type: ignore[override]
        """Run a statement for each row.

        Raises:
            OSError: if the disk is full.
        """
        with _explain_full_disk():
            return super().executemany(sql, rows)


@contextmanager
def _explain_full_disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        folder = tempfile.gettempdir()
        raise OSError(errno.ENOSPC, "no space left for lists of images", f"{folder}/list") from error


def encode_name(name: str) -> bytes:
    """The bytes of a name, which need not be valid text."""
    return name.encode("utf-8", "surrogatepass")


def decode_name(data: bytes) -> str:
    """The name that `encode_name` was given."""
    return data.decode("utf-8", "surrogatepass")
