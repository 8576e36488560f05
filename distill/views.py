"""What a student learns from: views of images that it sees as the teacher does, with the truth where it is known."""

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

from datasets.loader import Augment, Collate, Source, TrainingSet
from datasets.stores import ImageFiles, StoredExamples
from datasets.transforms import resize
from datasets.types import Example, Image

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PairedView(Example[T]):
    """One view of an image, as the student sees it (`image`) and as the teacher does.

    Attributes:
        teacher_image: uint8 RGB (S, S, 3).
        view: which of the views that are kept; None where none are.
    """

    teacher_image: Image
    view: int | None


class ViewKey(NamedTuple):
    """Where a teacher's answer for a view is kept.

    Attributes:
        view: number of the view.
        row: of the image in its source.
        digest: a 64-bit hash of the pixels.
    """

    view: int
    row: int
    digest: bytes


class DistillTargets(NamedTuple):
    """What N views are learnt from.

    Attributes:
        own: the targets of the student's own loss; None where it does not count.
        teacher_images: uint8 RGB (N, 3, S, S).
        keys: N keys of the teacher's answers; empty where none are kept.
    """

    own: Any
    teacher_images: Tensor
    keys: list[ViewKey]


class PairedViews(TrainingSet[T]):
    """The views of a source's images: `num_views` different ones of each, or a new one in each epoch."""

    def __init__(
        self, source: Source[T], augment: Augment[T], seed: int, *, input_size: int, num_views: int | None
    ) -> None:
        """How images are seen.

        Args:
            source: the images.
            augment: makes the teacher's view, of `input_size` pixels or larger.
            seed: of the run.
            input_size: the student's, in pixels.
            num_views: different ones of each image; None for a new one in each epoch.
        """
        super().__init__(source, augment, seed)
        self._input_size, self._num_views = input_size, num_views

    def augmented(self, example: Example[T]) -> PairedView[T]:
        """The teacher's view, and the same one scaled for the student; the seed says which of the views it is."""
        view = None if self._num_views is None else example.seed % self._num_views
        if view is not None:
            example = dataclasses.replace(example, seed=self._draw(example.row, view))
        seen = super().augmented(example)
        image = resize(seen.image, self._input_size)
        return PairedView(image, seen.truth, seen.id, seen.row, seen.seed, teacher_image=seen.image, view=view)


def distill_targets(examples: Sequence[Any], *, own: Collate[Any] | None) -> DistillTargets:
    """The targets of a batch of `PairedView`s; `own` makes those of the student's own loss."""
    pixels = np.stack([example.teacher_image for example in examples])
    return DistillTargets(
        None if own is None else own(examples),
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        [ViewKey(e.view, e.row, digest(e.teacher_image)) for e in examples if e.view is not None],
    )


def digest(pixels: Image) -> bytes:
    """A 64-bit hash of the pixels."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=8).digest()


class UnlabelledImages(StoredExamples[T]):
    """Images of which nothing is known."""

    def __init__(self, paths: Sequence[Path], nothing: T) -> None:
        """Args: paths: of the files; nothing: the truth of each, for augmentation alone."""
        super().__init__(ImageFiles(Path(), [str(path) for path in paths]), ())
        self._nothing = nothing

    def truth(self, index: int) -> T:
        """Nothing."""
        return self._nothing
