"""What teachers said of views of images, kept on disk, so that a slow teacher is asked once."""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.files import CACHE_VARIABLE

ANSWERS, CHECKS = "answers.npy", "checks.npy"
BLOCK_BYTES = 512  # of `st_blocks`, by POSIX
Halves = NDArray[np.float16]


class AnswerCache:
    """K answers for each of N images, of L halves each, in two files.

    An answer counts only with its check, a hash of the view's pixels and of the answer. So an image or an augmentation
    that has changed is a miss, and so is what a killed process or a full disk left half written; two runs may fill one
    cache.

    Attributes:
        size_bytes: when it is full.
    """

    def __init__(self, folder: Path, num_views: int, num_images: int, num_values: int) -> None:
        """Open a cache, or make it.

        Args:
            folder: made if need be.
            num_views: K.
            num_images: N.
            num_values: L.

        Raises:
            ValueError: if the disk has no room for all the answers.
        """
        self._folder = folder
        self._answers = _ArrayFile(folder / ANSWERS, np.float16, (num_views, num_images, num_values))
        self._checks = _ArrayFile(folder / CHECKS, np.uint64, (num_views, num_images))
        self.size_bytes = self._answers.size_bytes + self._checks.size_bytes
        folder.mkdir(parents=True, exist_ok=True)
        if self._missing_bytes() > shutil.disk_usage(folder).free:
            raise self._no_room("the disk is too small")
        try:
            self._answers.make()
            self._checks.make()
        except OSError as error:
            raise self._no_room(error.strerror) from error

    def find(self, view: int, row: int, digest: bytes) -> Halves | None:
        """The answer for a view with that digest; None where there is none."""
        check = self._checks.read(view, row)
        if check == 0:
            return None
        answer = self._answers.read(view, row)
        return answer if check == _check(digest, answer) else None

    def keep(self, view: int, row: int, digest: bytes, answer: Halves) -> None:
        """Write an answer.

        Raises:
            ValueError: if it cannot be written, as on a full disk.
        """
        try:
            self._answers.write(view, row, answer)
            self._checks.write(view, row, _check(digest, answer))
        except OSError as error:
            raise self._no_room(error.strerror) from error

    def _missing_bytes(self) -> int:
        """What the files have yet to take of the disk."""
        return max(0, self.size_bytes - self._answers.occupied_bytes() - self._checks.occupied_bytes())

    def _no_room(self, reason: str | None) -> ValueError:
        missing, free = self._missing_bytes(), shutil.disk_usage(self._folder).free
        return ValueError(
            f"{self._folder}: the teacher's answers cannot be kept ({reason}): they need {missing / 1e6:.1f} MB more, "
            f"and {free / 1e6:.1f} MB are free there; ask for fewer --views, keep none with `--views null`, or set "
            f"${CACHE_VARIABLE} to a folder on a larger disk"
        )


class _ArrayFile:
    """An array (K, N, ...) in an .npy file, of which an item is read or written at a time.

    The file is no memory map, because a process that writes into one on a full disk dies of a bus error. It is never
    made shorter and never replaced, so that several processes may make and use it at once, on any file system: all of
    them write the same header, and what else is in it counts only with its check. Where the file system has holes (not
    exFAT, nor NTFS as Windows opens files there), it takes space as it is filled, elsewhere all of it at once.
    """

    def __init__(self, path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        self._path, self._dtype, self._num_columns, self._item_shape = path, np.dtype(dtype), shape[1], shape[2:]
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._header = header.getvalue()
        self._item_bytes = self._dtype.itemsize * math.prod(self._item_shape)
        self.size_bytes = len(self._header) + shape[0] * shape[1] * self._item_bytes

    def make(self) -> None:
        """Make sure that there is a file of this size."""
        self._path.touch()
        with self._path.open("r+b") as file:
            file.write(self._header)
            if file.seek(0, os.SEEK_END) < self.size_bytes:
                file.truncate(self.size_bytes)  # zeros, which no check is

    def occupied_bytes(self) -> int:
        """What the file takes of the disk."""
        if not self._path.is_file():
            return 0
        status = self._path.stat()
        return status.st_blocks * BLOCK_BYTES if hasattr(status, "st_blocks") else status.st_size

    def read(self, row: int, column: int) -> NDArray[Any]:
        with self._path.open("rb") as file:
            file.seek(self._offset(row, column))
            data = file.read(self._item_bytes)
        return np.frombuffer(data, self._dtype).reshape(self._item_shape)

    def write(self, row: int, column: int, item: NDArray[Any] | np.generic) -> None:
        with self._path.open("r+b") as file:
            file.seek(self._offset(row, column))
            file.write(item.tobytes())

    def _offset(self, row: int, column: int) -> int:
        return len(self._header) + (row * self._num_columns + column) * self._item_bytes


def _check(digest: bytes, answer: Halves) -> np.uint64:
    """Never zero, which stands for no answer."""
    number = int.from_bytes(hashlib.blake2b(digest + answer.tobytes(), digest_size=8).digest(), "little")
    return np.uint64(max(number, 1))
