"""Pooled features of a frozen backbone, cached on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from backbone.base import Backbone
from datasets.files import atomic_write, cache_dir
from datasets.progress import Progress
from datasets.sources import Source
from tasks.common.evaluation.evaluate import evaluation_loader, readable_batches, track_unreadable
from tasks.common.evaluation.network_hash import hash_network
from tasks.common.evaluation.unreadable import too_many_unreadable
from tasks.common.runtime.device import autocast, compute_dtype
from tasks.common.task import Task

T = TypeVar("T")


class Features(NamedTuple):
    """Pooled features of the readable images of a source.

    Attributes:
        values: (N, num_features), on the CPU.
        rows: (N,), index of each image in the source.
        num_unreadable: number of images that could not be read; others are left out because nothing is in them.
    """

    values: Tensor
    rows: list[int]
    num_unreadable: int


@torch.no_grad()
def pooled_features(task: Task[T], backbone: Backbone, source: Source[T], title: str) -> Features:
    """The pooled features of all preprocessed images, from the cache if they are there.

    The cache key covers the weights, the preprocessing, and each file's path, size and modification time. The files are
    in `features` in the cache folder and may be deleted at any time.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_fraction` allows.
    """
    path = cache_dir() / "features" / f"{_key(task, backbone, source)}.npz"
    features = _read_cached(path)
    if features is not None:
        problem = too_many_unreadable(features.num_unreadable, len(source), task.config.loop.max_unreadable_fraction)
        if problem is not None:
            raise ValueError(problem)
        return features
    backbone.eval()
    device = next(backbone.parameters()).device
    dtype = compute_dtype(task.config.loop, device)
    values: list[Tensor] = []
    rows: list[int] = []
    loader = evaluation_loader(task, source, task.config.optim.batch_size)
    unreadable = track_unreadable(task, loader)
    with Progress(title, len(source)) as progress:
        for batch in readable_batches(task, loader, unreadable):
            if len(batch):
                with autocast(device, dtype):
                    values.append(backbone(batch.images.to(device)).float().cpu())
                rows += batch.rows
            progress.advance(len(batch) + len(batch.unreadable))
    features = Features(torch.cat(values), rows, unreadable.broken.num_images)
    with atomic_write(path) as temporary:
        np.savez(temporary, values=features.values.numpy(), rows=rows, num_unreadable=features.num_unreadable)
    return features


def _read_cached(path: Path) -> Features | None:
    """The features in a file of the cache; None if there is none, or it is damaged, so that they are computed anew."""
    try:
        with np.load(path, allow_pickle=False) as cached:
            values = torch.from_numpy(cached["values"])
            return Features(values, cached["rows"].tolist(), int(cached["num_unreadable"]))
    except Exception:  # of many types
        return None


def _key(task: Task[T], backbone: Backbone, source: Source[T]) -> str:
    settings = [dataclasses.asdict(task.config.data), task.config.loop.precision, str(backbone.conventions)]
    digest = hash_network(backbone, settings)
    for row in range(len(source)):
        path = Path(source.id(row))
        # Above a member of a shard is the shard.
        file = next((candidate for candidate in (path, *path.parents) if candidate.is_file()), None)
        status = file and file.stat()
        digest.update(f"{path} {status and (status.st_size, status.st_mtime_ns)}".encode())
    return digest.hexdigest()[:32]
