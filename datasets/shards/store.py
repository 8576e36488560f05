"""Members of tar files, read in any order by their offsets.

So they are shuffled like files: the order is a function of seed and epoch, and a run resumes exactly, which a stream of
shards cannot do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.images.headers import ImageHeader
from datasets.images.read import Decoding, UnreadableImageError, decode_image, header_of, unreadable
from datasets.shards.find import Shards
from datasets.shards.tars import RemoteTar
from datasets.stores import Rows
from datasets.types import Image


class ShardedImages:
    """Images, or masks, in tar files: an `ImageStore`."""

    def __init__(
        self, shards: Shards, shard_ids: NDArray[np.int32], spans: NDArray[np.int64], names: NDArray[np.bytes_]
    ) -> None:
        """Members of tar files.

        Args:
            shards: the tar files, not compressed.
            shard_ids: (N,), indices into their list.
            spans: (N, 2), offset and size in bytes of each member.
            names: (N,), of the members.
        """
        self.shards, self.shard_ids, self._spans, self._names = shards, shard_ids, spans, names

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def root(self) -> Path | str:
        """Where the tar files are."""
        return self.shards.root

    @property
    def is_elsewhere(self) -> bool:
        """Whether the tar files are on a server or in a bucket."""
        return any(isinstance(tar, RemoteTar) for tar in self.shards.tars)

    def name(self, row: int) -> str:
        """The name of a member, without that of its tar file: dividing the records among others moves none."""
        return os.fsdecode(self._names[row])

    def id(self, row: int) -> str:
        """The tar file's path and the member's name."""
        return f"{self.shards.tars[self.shard_ids[row]].name}/{self.name(row)}"

    def read(self, row: int, decoding: Decoding, *, expected_hw: tuple[int, int] | None = None) -> Image:
        """The image, decoded as told.

        Raises:
            UnreadableImageError: if the member is not an image, or not of the expected size.
        """
        return decode_image(self.data(row), self.id(row), decoding, expected_hw=expected_hw)

    def header(self, row: int) -> ImageHeader:
        """Size and depth of an image.

        Raises:
            UnreadableImageError: if the member is not an image.
        """
        return header_of(self.data(row), self.id(row))

    def data(self, row: int) -> bytes:
        """The bytes of a member.

        Raises:
            UnreadableImageError: if they cannot be read.
            ValueError: if the tar file cannot be copied from its server, which ends a training, to be resumed.
        """
        offset, size = self._spans[row].tolist()
        path = self.shards.tars[self.shard_ids[row]].file()
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data: bytes = file.read(size)
        except OSError as error:
            raise unreadable(self.id(row), error) from error
        if len(data) < size:
            raise UnreadableImageError(f"{self.id(row)}: {len(data)} of its {size} bytes are there")
        return data

    def select(self, rows: Rows) -> ShardedImages:
        """The members of these rows, in that order."""
        return ShardedImages(self.shards, self.shard_ids[rows], self._spans[rows], self._names[rows])

    def join(self, others: Sequence[ShardedImages]) -> ShardedImages:
        """These members and those of other tar files below the same root."""
        tars = tuple(dict.fromkeys(tar for store in (self, *others) for tar in store.shards.tars))
        number_of = {tar: number for number, tar in enumerate(tars)}
        ids = [
            np.array([number_of[tar] for tar in store.shards.tars], np.int32)[store.shard_ids]
            for store in (self, *others)
        ]
        shards = Shards(self.root, tars, self.shards.card)
        spans = np.concatenate([store._spans for store in (self, *others)])
        names = np.concatenate([store._names for store in (self, *others)])
        return ShardedImages(shards, np.concatenate(ids), spans, names)
