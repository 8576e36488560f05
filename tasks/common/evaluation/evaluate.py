"""The evaluation loop of a network in PyTorch, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets.batch import Batch
from datasets.loader import build_loader, ordered_batches
from datasets.progress import Progress
from datasets.sources import EvaluationSet, Source
from datasets.types import Image
from tasks.common.evaluation.failure_cases import FailureCases
from tasks.common.evaluation.network_hash import hash_network
from tasks.common.evaluation.scoring import Evaluation
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.inference_task import InferenceTask, Metric
from tasks.common.runtime.device import autocast, compute_dtype, device_of, to_fp32, uses_cuda
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task

T = TypeVar("T")


def evaluation_loader(
    task: InferenceTask[T],
    source: Source[T],
    batch_size: int,
    world: World = SINGLE_PROCESS,
    *,
    keep_workers: bool = False,
) -> DataLoader[Batch[T]]:
    """A loader of this process's part of a source: images preprocessed, truth as stored."""
    return build_loader(
        EvaluationSet(source, task.preprocessing()),
        ordered_batches(len(source), batch_size, rank=world.rank, world_size=world.size),
        num_workers=task.config.loop.num_workers,
        keep_workers=keep_workers,
        pin_memory=uses_cuda(task.config.loop),
    )


def readable_batches(
    task: InferenceTask[T], loader: DataLoader[Batch[T]], unreadable: UnreadableImages | None = None
) -> Iterator[Batch[T]]:
    """The batches of `evaluation_loader`; some may be empty.

    Args:
        task: its settings limit the number of unreadable images.
        loader: from `evaluation_loader`.
        unreadable: records the unreadable images; None for a new record.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_fraction` allows.
    """
    unreadable = unreadable or track_unreadable(task, loader)
    for batch in loader:
        unreadable.add(batch.unreadable)
        if unreadable.problem is not None:
            raise ValueError(unreadable.problem)
        yield batch


def track_unreadable(task: InferenceTask[T], loader: DataLoader[Batch[T]]) -> UnreadableImages:
    """A new record of the unreadable images of a loader's data set."""
    return UnreadableImages(len(loader.dataset), task.config.loop.max_unreadable_fraction)  # type: ignore[arg-type]


def evaluate(
    task: Task[T],
    model: nn.Module,
    loader: DataLoader[Batch[T]],
    *,
    world: World = SINGLE_PROCESS,
    metric: Metric[T] | None = None,
    failure_cases: FailureCases[T] | None = None,
    progress: Progress | None = None,
) -> Evaluation[T]:
    """Evaluate a model on the examples of all processes' loaders; the scores are the same on every process.

    Args:
        task: decodes the outputs.
        model: on its device; left in evaluation mode.
        loader: from `evaluation_loader`.
        world: the processes that share the images.
        metric: an empty metric; None for the task's.
        failure_cases: updated with this process's failure cases, on rank 0 with all.
        progress: advanced with each image.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_fraction` allows.
    """
    world.broadcast_buffers(model)
    metric = task.metric() if metric is None else metric
    unreadable, num_images = track_unreadable(task, loader), 0
    for batch in readable_batches(task, loader, unreadable):
        if len(batch):
            predicted = predict_batch(task, model, batch.images)
            metric.update(predicted, batch.truth)
            if failure_cases is not None:
                failure_cases.update(batch.rows, predicted, batch.truth)
        num_images += len(batch)
        if progress is not None:
            progress.advance(len(batch) + len(batch.unreadable))
    unreadable.merge_processes(world)
    if failure_cases is not None:
        failure_cases.merge_processes(world)
    num_images = sum(world.all_gather(num_images))
    for rank_metric in world.gather(metric)[1:]:
        metric.merge(rank_metric)
    scores = world.broadcast(metric.compute() if world.is_main else {})
    return Evaluation(scores, num_images, unreadable.broken.num_images, metric)


def evaluate_source(
    task: Task[T],
    model: nn.Module,
    source: Source[T],
    title: str,
    *,
    world: World = SINGLE_PROCESS,
    metric: Metric[T] | None = None,
    failure_cases: FailureCases[T] | None = None,
) -> Evaluation[T]:
    """Evaluate a model on a source, shared by the processes, with a progress bar.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_fraction` allows.
    """
    loader = evaluation_loader(task, source, task.config.optim.batch_size, world)
    num_images = len(np.array_split(range(len(source)), world.size)[world.rank])
    with Progress(title, num_images, silent=not world.is_main) as progress:
        return evaluate(task, model, loader, world=world, metric=metric, failure_cases=failure_cases, progress=progress)


@torch.inference_mode()
def predict_batch(task: Task[T], model: nn.Module, images: torch.Tensor) -> list[T]:
    """Predictions for preprocessed images, uint8 (N, 3, S, S); a model that is trained is set to evaluation mode."""
    if model.training:
        model.eval()  # not each time: threads may share a model
    device = device_of(model)
    with autocast(device, compute_dtype(task.config.loop, device)):
        outputs = model(images.to(device, non_blocking=True))
    return task.decode(to_fp32(outputs))


@dataclass(frozen=True)
class TorchPredictor(Generic[T]):
    """Preprocessed images (S, S, 3) -> a prediction for each, by a network on its device."""

    task: Task[T]
    network: nn.Module

    def __call__(self, pixels: Sequence[Image]) -> list[T]:
        """The predictions."""
        return predict_batch(self.task, self.network, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))

    def digest(self, settings: Any) -> str:
        """A hash of the network and of JSON-serialisable settings."""
        return hash_network(self.network, settings).hexdigest()
