"""A disk cache of teacher outputs for views of images, so that a slow teacher runs once per view."""

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

OUTPUTS, CHECKSUMS = "outputs.npy", "checksums.npy"
BLOCK_BYTES = 512  # of `st_blocks`, by POSIX
Float16Array = NDArray[np.float16]


class OutputCache:
    """Outputs for K views of each of N images, L float16 values each, in two files.

    An entry is valid only if its checksum, a hash of the view's pixels and of the outputs, matches. So an image or an
    augmentation that has changed is a miss, as is an entry that a killed process or a full disk left half written.
    Several runs may fill one cache at once.

    Attributes:
        size_bytes: size when full.
    """

    def __init__(self, folder: Path, num_views: int, num_images: int, num_values: int) -> None:
        """Open a cache, or create it.

        Args:
            folder: created if missing.
            num_views: K.
            num_images: N.
            num_values: L.

        Raises:
            ValueError: if the disk has no room for all outputs.
        """
        self._folder = folder
        self._outputs = _ArrayFile(folder / OUTPUTS, np.float16, (num_views, num_images, num_values))
        self._checksums = _ArrayFile(folder / CHECKSUMS, np.uint64, (num_views, num_images))
        self.size_bytes = self._outputs.size_bytes + self._checksums.size_bytes
        folder.mkdir(parents=True, exist_ok=True)
        if self._missing_bytes() > shutil.disk_usage(folder).free:
            raise self._disk_error("the disk is too small")
        try:
            self._outputs.create()
            self._checksums.create()
        except OSError as error:
            raise self._disk_error(error.strerror) from error

    def get(self, view: int, row: int, digest: bytes) -> Float16Array | None:
        """The outputs for the view with that digest; None on a miss."""
        checksum = self._checksums.read(view, row)
        if checksum == 0:
            return None
        outputs = self._outputs.read(view, row)
        return outputs if checksum == _checksum(digest, outputs) else None

    def put(self, view: int, row: int, digest: bytes, outputs: Float16Array) -> None:
        """Write an entry.

        Raises:
            ValueError: if it cannot be written, as on a full disk.
        """
        try:
            self._outputs.write(view, row, outputs)
            self._checksums.write(view, row, _checksum(digest, outputs))
        except OSError as error:
            raise self._disk_error(error.strerror) from error

    def _missing_bytes(self) -> int:
        """Disk space that the files do not occupy yet."""
        return max(0, self.size_bytes - self._outputs.occupied_bytes() - self._checksums.occupied_bytes())

    def _disk_error(self, reason: str | None) -> ValueError:
        missing, free = self._missing_bytes(), shutil.disk_usage(self._folder).free
        return ValueError(
            f"{self._folder}: cannot cache the teacher outputs ({reason}): they need {missing / 1e6:.1f} MB more, and "
            f"{free / 1e6:.1f} MB are free; use fewer --views, no cache (`--views null`), or set ${CACHE_VARIABLE} to "
            "a folder on a larger disk"
        )


class _ArrayFile:
    """An array (K, N, ...) in an .npy file whose items are read and written one at a time.

    Not a memory map: a process that writes into one on a full disk dies of a bus error. The file is never truncated or
    replaced, so several processes may create and use it at once, on any file system: they all write the same header,
    and the checksums validate the rest. On file systems with sparse files (not exFAT, nor NTFS as Windows opens files)
    it takes up space as it is filled, elsewhere all of it at once.
    """

    def __init__(self, path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        self._path, self._dtype, self._num_columns, self._item_shape = path, np.dtype(dtype), shape[1], shape[2:]
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._header = header.getvalue()
        self._item_bytes = self._dtype.itemsize * math.prod(self._item_shape)
        self.size_bytes = len(self._header) + shape[0] * shape[1] * self._item_bytes

    def create(self) -> None:
        """Create the file if missing, and extend it to its full size."""
        self._path.touch()
        with self._path.open("r+b") as file:
            file.write(self._header)
            if file.seek(0, os.SEEK_END) < self.size_bytes:
                file.truncate(self.size_bytes)  # fills with zeros, which no checksum equals

    def occupied_bytes(self) -> int:
        """Disk space that the file occupies."""
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


def _checksum(digest: bytes, outputs: Float16Array) -> np.uint64:
    """Never zero, which marks an empty entry."""
    value = int.from_bytes(hashlib.blake2b(digest + outputs.tobytes(), digest_size=8).digest(), "little")
    return np.uint64(max(value, 1))
