"""Image storage of data sets: files below a folder (here), or members of tar files (`datasets/shards`).

Names are stored in one array, not in a million Python objects, so that loader processes share its memory.
`StoredExamples` is the base of data sets with one truth per image.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.images.headers import ImageHeader
from datasets.images.read import AS_STORED, Decoding, image_header, read_bytes, read_image
from datasets.types import Example, Image

T = TypeVar("T")
Rows = NDArray[np.int64] | NDArray[np.bool_]


class ImageStore(Protocol):
    """Images that can be read in any order."""

    @property
    def root(self) -> Path | str:
        """Where they are: a folder, a tar file, or a list of these."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """The name of an image, relative to the root; in a shard, the member's."""

    def id(self, row: int) -> str:
        """The path of an image; in a shard, the shard's path and the member's name."""

    def read(self, row: int, decoding: Decoding, *, expected_hw: tuple[int, int] | None = None) -> Image:
        """The image, see `datasets.images.read.decode_image`.

        Raises:
            UnreadableImageError: if it cannot be read, or is not of the expected size.
        """

    def header(self, row: int) -> ImageHeader:
        """Size and depth of an image.

        Raises:
            UnreadableImageError: if it cannot be read.
        """

    def data(self, row: int) -> bytes:
        """The bytes of an image's file.

        Raises:
            UnreadableImageError: if they cannot be read.
        """

    def select(self, rows: Rows) -> Self:
        """A store of the images at `rows`, in that order."""

    def join(self, others: Sequence[Self]) -> Self:
        """A store of these images and those of other splits, with the same root."""


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

    def read(self, row: int, decoding: Decoding, *, expected_hw: tuple[int, int] | None = None) -> Image:
        """The image, decoded as told.

        Raises:
            UnreadableImageError: if the file cannot be read, or is not of the expected size.
        """
        return read_image(Path(self.id(row)), decoding, expected_hw=expected_hw)

    def header(self, row: int) -> ImageHeader:
        """Size and depth of an image.

        Raises:
            UnreadableImageError: if the file cannot be read.
        """
        return image_header(Path(self.id(row)))

    def data(self, row: int) -> bytes:
        """The bytes of a file.

        Raises:
            UnreadableImageError: if it cannot be read.
        """
        return read_bytes(Path(self.id(row)))

    def select(self, rows: Rows) -> ImageFiles:
        """A store of the files at `rows`, in that order."""
        return ImageFiles(self.root, self.names[rows])

    def join(self, others: Sequence[ImageFiles]) -> ImageFiles:
        """A store of these files and others below the same folder."""
        assert all(other.root == self.root for other in others)
        return ImageFiles(self.root, np.concatenate([self.names, *(other.names for other in others)]))


def join_images(stores: Sequence[ImageStore]) -> ImageStore:
    """The images of several stores of one kind, with the same root."""
    first, *others = stores
    return first.join(others)


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
