"""The evaluation loop, and pictures of example predictions."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets.batch import Batch
from datasets.drawing.draw import contact_sheet
from datasets.images.read import UnreadableImageError, write_image
from datasets.loader import EvaluationSet, build_loader, ordered_batches
from datasets.look.look import look_before_training
from datasets.progress import Progress
from datasets.sources import Source
from datasets.splits import MissingSplitError
from datasets.types import Image, Split
from tasks.common.evaluation.failure_cases import FailureCases
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.inference_task import Metric
from tasks.common.runtime.device import autocast, compute_dtype, device_of, to_fp32, uses_cuda
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task

T = TypeVar("T")
NUM_EXAMPLES = 12
NO_IMAGES = {"num_images": 0, "num_unreadable": 0}  # the counts where nothing is scored
NOT_HELD_OUT = "no images are held out, so there are no scores; --data.val_fraction 0.2 sets some aside"


class Evaluation(NamedTuple, Generic[T]):
    """The result of an evaluation.

    Attributes:
        scores: by name.
        num_images: number of images that were scored.
        num_unreadable: number of images that could not be read.
        metric: the metric behind the scores; complete on rank 0 only.
    """

    scores: dict[str, float]
    num_images: int
    num_unreadable: int
    metric: Metric[T]

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of images, as they are written beside the scores."""
        return {"num_images": self.num_images, "num_unreadable": self.num_unreadable}


def evaluation_loader(
    task: Task[T], source: Source[T], batch_size: int, world: World = SINGLE_PROCESS, *, keep_workers: bool = False
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
    task: Task[T], loader: DataLoader[Batch[T]], unreadable: UnreadableImages | None = None
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


def track_unreadable(task: Task[T], loader: DataLoader[Batch[T]]) -> UnreadableImages:
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
        failure_cases: updated with this process's failure cases.
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
    num_images = sum(world.all_gather(num_images))
    for rank_metric in world.gather(metric)[1:]:
        metric.merge(rank_metric)
    scores = world.broadcast(metric.compute() if world.is_main else {})
    return Evaluation(scores, num_images, len(unreadable.reasons), metric)


def evaluate_source(
    task: Task[T],
    model: nn.Module,
    source: Source[T],
    title: str,
    *,
    metric: Metric[T] | None = None,
    failure_cases: FailureCases[T] | None = None,
) -> Evaluation[T]:
    """Evaluate a model on a source in this process, with a progress bar.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_fraction` allows.
    """
    loader = evaluation_loader(task, source, task.config.optim.batch_size)
    with Progress(title, len(source)) as progress:
        return evaluate(task, model, loader, metric=metric, failure_cases=failure_cases, progress=progress)


@torch.inference_mode()
def predict_batch(task: Task[T], model: nn.Module, images: torch.Tensor) -> list[T]:
    """Predictions for preprocessed images, uint8 (N, 3, S, S); a model that is trained is set to evaluation mode."""
    if model.training:
        model.eval()  # not each time: threads may share a model
    device = device_of(model)
    with autocast(device, compute_dtype(task.config.loop, device)):
        outputs = model(images.to(device, non_blocking=True))
    return task.decode(to_fp32(outputs))


def predict_pixels(task: Task[T], model: nn.Module, pixels: Sequence[Image]) -> list[T]:
    """Predictions for preprocessed images (S, S, 3)."""
    return predict_batch(task, model, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


def draw_examples(task: Task[T], model: nn.Module, source: Source[T], path: Path) -> None:
    """Draw predictions beside the truth for examples spread evenly over a source, on a contact sheet."""
    rows = np.unique(np.linspace(0, len(source) - 1, NUM_EXAMPLES).astype(int))
    preprocess = task.preprocessing()
    pictures = []
    for row in rows:
        try:
            example = source[int(row)]
            (predicted,) = predict_pixels(task, model, [preprocess(example.image)])
        except UnreadableImageError:
            continue  # the evaluation has warned about it
        pictures.append(task.draw(example.image, predicted, example.truth))
    if pictures:
        write_image(path, contact_sheet(pictures))


def validation_source(task: Task[T]) -> Source[T] | None:
    """The validation images; None where the data have none and the settings ask for none to be held out.

    Raises:
        ValueError: if they cannot be read.
        MissingSplitError: (a ValueError) if there are none, and nobody asked for that.
    """
    try:
        return task.source("val")
    except MissingSplitError:
        if task.config.data.val_fraction is None:
            return None
        raise


def inspect_data(task: Task[Any]) -> None:
    """Say what the data of a training are, and warn about what was repaired, skipped or found in them.

    Raises:
        ValueError: if they cannot be used.
    """
    config = task.config
    if config.data.root is not None:
        print(f"data: {task.data.found}", file=sys.stderr)
    sources: dict[Split, Source[Any]] = {"train": task.source("train")}
    val_source = validation_source(task)
    if val_source is None:
        print(NOT_HELD_OUT, file=sys.stderr)
    else:
        sources["val"] = val_source
    for source in sources.values():
        warn_about_data(source)
    look_before_training(
        sources,
        input_size=config.data.input_size,
        max_unreadable_fraction=config.loop.max_unreadable_fraction,
    )


def warn_about_data(source: Source[Any]) -> None:
    """Emit the warnings of a source: what was repaired or skipped while reading it."""
    for line in source.warnings:
        warnings.warn(line, stacklevel=2)
