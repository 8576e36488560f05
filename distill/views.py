"""Training data of a distillation: one augmented view per image for both teacher and student, with its targets."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from datasets.loader import Augment, Collate, TrainingSet
from datasets.resizing import resize
from datasets.sources import Source
from datasets.stores import ImageFiles, StoredExamples
from datasets.types import Example, Image

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PairedView(Example[T]):
    """One view of an image, at the student's input size (`image`) and at the teacher's.

    Attributes:
        teacher_image: uint8 RGB (S, S, 3).
        view: index among the cached views; None without a cache.
    """

    teacher_image: Image
    view: int | None


class ViewKey(NamedTuple):
    """Cache key of the teacher outputs for a view.

    Attributes:
        view: index of the view.
        row: index of the image in its source.
        digest: a 64-bit hash of the pixels.
    """

    view: int
    row: int
    digest: bytes


class DistillTargets(NamedTuple):
    """Targets of N views.

    Attributes:
        own: targets of the task's own loss; None where neither loss needs them.
        teacher_images: uint8 RGB (N, 3, S, S).
        keys: N cache keys; empty without a cache.
    """

    own: Any
    teacher_images: Tensor
    keys: list[ViewKey]


class PairedViews(TrainingSet[T]):
    """Views of a source's images: one of `num_views` fixed views of each, or a new one in each epoch."""

    def __init__(
        self, source: Source[T], augment: Augment[T], seed: int, *, input_size: int, num_views: int | None
    ) -> None:
        """Set up the views.

        Args:
            source: the images.
            augment: makes the teacher's view, `input_size` pixels or larger.
            seed: of the run.
            input_size: the student's, in pixels.
            num_views: fixed views of each image; None for a new one in each epoch.
        """
        super().__init__(source, augment, seed)
        self._input_size, self._num_views = input_size, num_views

    def augmented(self, example: Example[T]) -> PairedView[T]:
        """The teacher's view, and the same view resized for the student; the example's seed selects the view."""
        view = None if self._num_views is None else example.seed % self._num_views
        if view is not None:
            example = dataclasses.replace(example, seed=self._seed_of(example.row, view))
        large = super().augmented(example)
        image = resize(large.image, self._input_size)
        return PairedView(image, large.truth, large.id, large.row, large.seed, teacher_image=large.image, view=view)


def distill_targets(examples: Sequence[Any], *, own: Collate[Any] | None) -> DistillTargets:
    """The targets of a batch of `PairedView`s; `own` collates those of the task's own loss."""
    pixels = np.stack([example.teacher_image for example in examples])
    return DistillTargets(
        None if own is None else own(examples),
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        [ViewKey(e.view, e.row, pixel_digest(e.teacher_image)) for e in examples if e.view is not None],
    )


def pixel_digest(pixels: Image) -> bytes:
    """A 64-bit hash of the pixels."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=8).digest()


class UnlabelledImages(StoredExamples[T]):
    """Images without labels."""

    def __init__(self, paths: Sequence[Path], dummy_truth: T) -> None:
        """Args: paths: of the files; dummy_truth: the truth of each, for augmentation only."""
        super().__init__(ImageFiles(Path(), [str(path) for path in paths]), ())
        self._dummy_truth = dummy_truth

    def truth(self, index: int) -> T:
        """The dummy."""
        return self._dummy_truth
