"""The order of training images that are in tar files elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.shards.store import ShardedImages
from datasets.stores import StoredExamples

BUFFER_TARS = 8


class ShardOrder:
    """Tar files in random order, and the images of a few of them at a time, shuffled: a `datasets.loader.Order`.

    So a first epoch copies the files one after the other, while it trains; each image is shown once an epoch.
    """

    def __init__(self, shard_ids: NDArray[np.int32]) -> None:
        """Args: shard_ids: (N,), the tar file of each image."""
        order = np.argsort(shard_ids, kind="stable")
        self._rows_of = np.split(order, np.flatnonzero(np.diff(shard_ids[order])) + 1)

    def __call__(self, rng: np.random.Generator, batch_size: int) -> NDArray[np.int64]:
        """The rows of an epoch."""
        tars = rng.permutation(len(self._rows_of))
        groups = [tars[start : start + BUFFER_TARS] for start in range(0, len(tars), BUFFER_TARS)]
        return np.concatenate([rng.permutation(np.concatenate([self._rows_of[tar] for tar in g])) for g in groups])


def shard_order(source: object) -> ShardOrder | None:
    """The order for images in tar files elsewhere; None for all others, which are shuffled as they are."""
    images = source.images if isinstance(source, StoredExamples) else None
    return ShardOrder(images.shard_ids) if isinstance(images, ShardedImages) and images.is_elsewhere else None
