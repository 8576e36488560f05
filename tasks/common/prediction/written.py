"""What a folder of predictions has: its images and videos, and the names of their files."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from tasks.common.prediction.database import decode_name, encode_name, temporary_database
from tasks.common.prediction.web import is_url

MAX_STEM = 150  # characters, of a URL


class WrittenImages:
    """Images and videos with a name for their files; equal ones, from several folders, are numbered."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._database = temporary_database(
            "CREATE TABLE images (name BLOB, is_video INTEGER, stem BLOB, PRIMARY KEY (name, is_video)) WITHOUT ROWID",
            "CREATE TABLE stems (stem BLOB, is_video INTEGER, count INTEGER, PRIMARY KEY (stem, is_video)) "
            "WITHOUT ROWID",
        )

    def __contains__(self, name: str) -> bool:
        found = self._database.execute("SELECT 1 FROM images WHERE name = ?", (encode_name(name),))
        return found.fetchone() is not None

    def stem(self, name: str, *, is_video: bool) -> str:
        """The name, without suffix, of the files for an image or video, which is added unless it is there."""
        key = (encode_name(name), is_video)
        known = self._database.execute("SELECT stem FROM images WHERE name = ? AND is_video = ?", key).fetchone()
        if known is not None:
            return decode_name(known[0])
        stem = self._unused(_stem(name), is_video=is_video)
        self._database.execute("INSERT INTO images VALUES (?, ?, ?)", (*key, encode_name(stem)))
        return stem

    def _unused(self, first: str, *, is_video: bool) -> str:
        """The first of NAME, NAME-2, NAME-3, ... that no other has; it counts as used from now on."""
        number = self._count(first, is_video=is_video) + 1
        stem = first if number == 1 else f"{first}-{number}"
        while self._count(stem, is_video=is_video):  # another's own name is like this
            number += 1
            stem = f"{first}-{number}"
        for used, count in ((first, number), (stem, 1)):
            self._database.execute(
                "INSERT INTO stems VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = max(count, excluded.count)",
                (encode_name(used), is_video, count),
            )
        return stem

    def _count(self, stem: str, *, is_video: bool) -> int:
        """The last number that was tried for a stem, 1 for itself; 0 if it is unused."""
        key = (encode_name(stem), is_video)
        found = self._database.execute("SELECT count FROM stems WHERE stem = ? AND is_video = ?", key).fetchone()
        return 0 if found is None else int(found[0])


def as_name(text: str) -> str:
    """A text as the name of a file or folder."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", text).strip(". ") or "_"


def _stem(source: str) -> str:
    """A file name, without suffix, for an image or video: a path, a URL, or "camera 0"."""
    if not is_url(source):
        return Path(source).stem
    parts = urlsplit(source)
    return as_name(Path(parts.path).stem or parts.hostname or "stream")[:MAX_STEM]
