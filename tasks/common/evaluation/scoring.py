"""What every evaluation has, whatever runs the network: its result, its data, and pictures of example predictions."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from datasets.drawing.draw import contact_sheet
from datasets.images.read import UnreadableImageError, write_image
from datasets.look.look import look_before_training
from datasets.sources import Source
from datasets.splits import MissingSplitError
from datasets.types import Split
from tasks.common.inference_task import InferenceTask, Metric, Predict

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


def draw_examples(task: InferenceTask[T], predict: Predict[T], source: Source[T], path: Path) -> None:
    """Draw predictions beside the truth for examples spread evenly over a source, on a contact sheet."""
    rows = np.unique(np.linspace(0, len(source) - 1, NUM_EXAMPLES).astype(int))
    preprocess = task.preprocessing()
    pictures = []
    for row in rows:
        try:
            example = source[int(row)]
            (predicted,) = predict([preprocess(example.image)])
        except UnreadableImageError:
            continue  # the evaluation has warned about it
        pictures.append(task.draw(example.image, predicted, example.truth))
    if pictures:
        write_image(path, contact_sheet(pictures))


def validation_source(task: InferenceTask[T]) -> Source[T] | None:
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


def inspect_data(task: InferenceTask[Any]) -> None:
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


def describe_images(source: Source[Any]) -> str:
    """The number and a hash of the images of a source, by which processes see that they have the same.

    Folders may be at different places of different machines, so of a path only the last two names count.
    """
    digest = hashlib.sha256()
    for row in range(len(source)):
        name = "/".join(source.id(row).replace(os.sep, "/").rsplit("/", 2)[-2:])
        digest.update(f"{name}\0".encode("utf-8", "surrogatepass"))
    return f"{len(source):,}, SHA-256 {digest.hexdigest()[:16]}"


def warn_about_data(source: Source[Any]) -> None:
    """Emit the warnings of a source: what was repaired or skipped while reading it."""
    for line in source.warnings:
        warnings.warn(line, stacklevel=2)
