"""Predictions for a whole split: the one evaluation loop, and pictures of some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets.images import UnreadableImageError, write_image
from datasets.loader import Source, TransformedDataset, build_loader, ordered_batches
from datasets.types import Batch, Image
from tasks.common.device import autocast, compute_dtype, device_of, in_fp32
from tasks.common.distributed import ALONE, World
from tasks.common.draw import contact_sheet, put_label
from tasks.common.progress import Progress
from tasks.common.report import write_csv
from tasks.common.task import Metric, Trainable
from tasks.common.unreadable import UnreadableImages

T = TypeVar("T")
NUM_PICTURES = 12
MISTAKES = Path("mistakes.png")
BLACK = (0, 0, 0)


class Result(NamedTuple, Generic[T]):
    """What was predicted for one example, and what is true of it."""

    id: str
    predicted: T
    truth: T


def evaluation_loader(
    task: Trainable[T], source: Source[T], batch_size: int, world: World = ALONE, *, keep_workers: bool = False
) -> DataLoader[Batch[T]]:
    """All examples of a source once, over all processes: images preprocessed, truth as stored."""
    dataset = TransformedDataset(source, partial(_plain, task.preprocess), seed=0)
    return build_loader(
        dataset,
        ordered_batches(len(dataset), batch_size)[world.rank :: world.size],
        num_workers=task.config.loop.num_workers,
        keep_workers=keep_workers,
    )


def _plain(preprocess: Callable[[Image], Image], image: Image, truth: T, _seed: int) -> tuple[Image, T]:
    return preprocess(image), truth


def readable_batches(task: Trainable[T], loader: DataLoader[Batch[T]]) -> Iterator[Batch[T]]:
    """The batches of `evaluation_loader`, some perhaps empty.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_share` allows.
    """
    unreadable = UnreadableImages(len(loader.dataset), task.config.loop.max_unreadable_share)  # type: ignore[arg-type]
    for batch in loader:
        unreadable.add(batch.unreadable)
        yield batch


def predict_split(
    task: Trainable[T],
    model: nn.Module,
    loader: DataLoader[Batch[T]],
    *,
    world: World = ALONE,
    on_batch: Callable[[Batch[T]], None] = lambda batch: None,
) -> list[Result[T]]:
    """A prediction for each example of all processes' loaders, in the first process; in the others none.

    Args:
        task: decodes.
        model: on its device; left in evaluation mode.
        loader: from `evaluation_loader`.
        world: the processes that share the work.
        on_batch: called after each batch, to show progress.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_share` allows.
    """
    world.share_buffers(model)
    results: list[Result[T]] = []
    for batch in readable_batches(task, loader):
        if batch.ids:
            predicted = predict_batch(task, model, batch.images)
            results += map(Result, batch.ids, predicted, batch.truth)
        on_batch(batch)
    return world.gather(results)


def predict_source(task: Trainable[T], model: nn.Module, source: Source[T], title: str) -> list[Result[T]]:
    """A prediction for each example of a source, in this process, with a progress bar of that title.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_share` allows.
    """
    loader = evaluation_loader(task, source, task.config.optim.batch_size)
    with Progress(title, len(source)) as progress:
        return predict_split(task, model, loader, on_batch=lambda batch: progress.advance(len(batch.ids)))


def score(task: Trainable[T], results: Sequence[Result[T]]) -> Metric[T]:
    """The task's metric, which has taken in the results."""
    metric = task.metric()
    if results:
        metric.update([result.predicted for result in results], [result.truth for result in results])
    return metric


def evaluate(
    task: Trainable[T], model: nn.Module, loader: DataLoader[Batch[T]], *, world: World = ALONE
) -> dict[str, float]:
    """The task's scores over the examples of all processes' loaders, the same in every process.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_share` allows.
    """
    results = predict_split(task, model, loader, world=world)
    return world.share(score(task, results).compute() if world.is_main else {})


@torch.inference_mode()
def predict_batch(task: Trainable[T], model: nn.Module, images: torch.Tensor) -> list[T]:
    """One prediction for each preprocessed image, uint8 (N, 3, S, S)."""
    model.eval()
    device = device_of(model)
    with autocast(device, compute_dtype(task.config.loop, device)):
        outputs = model(images.to(device, non_blocking=True))
    return task.decode(in_fp32(outputs))


def predict_pixels(task: Trainable[T], model: nn.Module, pixels: Sequence[Image]) -> list[T]:
    """One prediction for each preprocessed image (S, S, 3)."""
    return predict_batch(task, model, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


def draw_examples(task: Trainable[T], model: nn.Module, source: Source[T], path: Path) -> None:
    """A sheet of predictions beside the truth, for examples spread evenly over a source."""
    rows = np.unique(np.linspace(0, len(source) - 1, NUM_PICTURES).astype(int))
    pictures = []
    for row in rows:
        try:
            example = source[int(row)]
            (predicted,) = predict_pixels(task, model, [task.preprocess(example.image)])
        except UnreadableImageError:
            continue  # named when the split was evaluated
        pictures.append(task.draw(example.image, predicted, example.truth))
    if pictures:
        write_image(path, contact_sheet(pictures))


def write_mistakes(task: Trainable[T], results: Sequence[Result[T]], source: Source[T], folder: Path) -> None:
    """The most confident mistake of each image as a table, `mistakes.csv`, and the worst as a sheet, `mistakes.png`.

    The most confident first; no files where there are none.
    """
    found = [(task.mistake(result.predicted, result.truth), result) for result in results]
    wrong = sorted(((m, result) for m, result in found if m is not None), key=lambda pair: -pair[0].confidence)
    if not wrong:
        return
    rows = [{"image": result.id, "confidence": mistake.confidence, "what": mistake.what} for mistake, result in wrong]
    write_csv(folder / MISTAKES.with_suffix(".csv"), rows)
    row_of = {source.id(row): row for row in range(len(source))}
    pictures = []
    for mistake, result in wrong[:NUM_PICTURES]:
        picture = task.draw(source[row_of[result.id]].image, mistake.predicted, result.truth)
        put_label(picture, f"{mistake.confidence:.2f} {mistake.what}", 0, len(picture), BLACK)
        pictures.append(picture)
    write_image(folder / MISTAKES, contact_sheet(pictures))
