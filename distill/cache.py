"""What teachers said of views of images, kept on disk, so that a slow teacher is asked once."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ANSWERS, CHECKS = "answers.npy", "checks.npy"
Halves = NDArray[np.float16]
Array = np.memmap[tuple[int, ...], np.dtype[np.generic]]


class AnswerCache:
    """K answers for each of N images, of L halves each, in two files that grow as they are filled.

    An answer counts only with its check, a hash of the view's pixels and of the answer. So an image or an augmentation
    that has changed is a miss, and so is what a killed process or a full disk left half written; two runs may fill one
    cache.
    """

    def __init__(self, folder: Path, num_views: int, num_images: int, num_values: int) -> None:
        """Args: folder: made if need be; num_views: K; num_images: N; num_values: L."""
        self._answers = _open(folder / ANSWERS, np.float16, (num_views, num_images, num_values))
        self._checks = _open(folder / CHECKS, np.uint64, (num_views, num_images))

    @property
    def size_bytes(self) -> int:
        """When it is full."""
        return int(self._answers.nbytes + self._checks.nbytes)

    def find(self, view: int, row: int, digest: bytes) -> Halves | None:
        """The answer for a view with that digest; None where there is none."""
        check = self._checks[view, row]
        if check == 0:
            return None
        answer = np.array(self._answers[view, row])
        return answer if check == _check(digest, answer) else None

    def keep(self, view: int, row: int, digest: bytes, answer: Halves) -> None:
        """Write an answer."""
        self._answers[view, row] = answer
        self._checks[view, row] = _check(digest, answer)


def _open(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> Array:
    """The array in a file, made if it is not there or not like that; zeros take no space on disk."""
    array = _opened(path, dtype, shape)
    if array is not None:
        return array
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        with suppress(FileExistsError):  # another process was faster, and has it open; or it is damaged
            os.link(temporary, path)
        array = _opened(path, dtype, shape)
        if array is None:
            os.replace(temporary, path)
            array = _opened(path, dtype, shape)
    finally:
        temporary.unlink(missing_ok=True)
    assert array is not None
    return array


def _opened(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> Array | None:
    with suppress(OSError, ValueError):  # it is not there, or damaged
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape == shape and array.dtype == dtype:
            return array
    return None


def _check(digest: bytes, answer: Halves) -> np.uint64:
    """Never zero, which stands for no answer."""
    number = int.from_bytes(hashlib.blake2b(digest + answer.tobytes(), digest_size=8).digest(), "little")
    return np.uint64(max(number, 1))
