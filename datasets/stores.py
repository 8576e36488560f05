"""Image storage of data sets: files below a folder (here), or members of tar files (`shards.py`).

Names are stored in one array, not in a million Python objects, so that loader processes share its memory.
`StoredExamples` is the base of data sets with one truth per image.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.images.read import AS_STORED, Decoding, read_image
from datasets.types import Example, Image

T = TypeVar("T")
Rows = NDArray[np.int64] | NDArray[np.bool_]


class ImageStore(Protocol):
    """Images that can be read in any order."""

    def __len__(self) -> int: ...

    def id(self, row: int) -> str:
        """The path of an image; in a shard, the shard's path and the member's name."""

    def read(self, row: int, decoding: Decoding) -> Image:
        """The image, see `datasets.images.read.decode_image`.

        Raises:
            UnreadableImageError: if it cannot be read.
        """

    def select(self, rows: Rows) -> ImageStore:
        """A store of the images at `rows`, in that order."""


class ImageFiles:
    """Files below a folder: an `ImageStore`."""

    def __init__(self, root: Path, names: Sequence[str] | NDArray[np.bytes_]) -> None:
        """Args: root: folder; names: of files relative to it, as text or encoded by `os.fsencode` as `np.bytes_`."""
        self.root = root
        self.names = names if isinstance(names, np.ndarray) else np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """The name of a file, relative to the folder."""
        return os.fsdecode(self.names[row])

    def id(self, row: int) -> str:
        """The path of a file."""
        return os.path.join(self.root, self.name(row))

    def read(self, row: int, decoding: Decoding) -> Image:
        """The image, decoded as told.

        Raises:
            UnreadableImageError: if the file cannot be read.
        """
        return read_image(Path(self.id(row)), decoding)

    def select(self, rows: Rows) -> ImageFiles:
        """A store of the files at `rows`, in that order."""
        return ImageFiles(self.root, self.names[rows])


def join_files(stores: Sequence[ImageStore]) -> ImageFiles:
    """The files of several stores below one folder."""
    files = [store for store in stores if isinstance(store, ImageFiles)]
    assert len(files) == len(stores)
    assert len({store.root for store in files}) == 1
    return ImageFiles(files[0].root, np.concatenate([store.names for store in files]))


class StoredExamples(Generic[T]):
    """A `datasets.sources.Source` over the images of a store; subclasses add `truth(index)`.

    Attributes:
        images: the store.
        decoding: how files become pixels; set by the task.
        warnings: what was repaired or skipped while reading.
    """

    def __init__(self, images: ImageStore, warnings: Sequence[str]) -> None:
        """Args: images: the store; warnings: of the reader."""
        self.images = images
        self.decoding = AS_STORED
        self.warnings = list(warnings)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example[T]:
        """An image with its truth.

        Raises:
            UnreadableImageError: if it cannot be read.
        """
        return Example(self.images.read(index, self.decoding), self.truth(index), self.id(index))

    def id(self, index: int) -> str:
        """The path of an image."""
        return self.images.id(index)

    @abstractmethod
    def truth(self, index: int) -> T:
        """The truth of an image, without opening it."""
