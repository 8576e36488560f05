"""What a student learns from: views of images, with the truth where it is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np

from datasets.loader import Source, Transform
from datasets.stores import ImageFiles, StoredExamples
from datasets.types import Example, Image

T = TypeVar("T")


class Question(NamedTuple, Generic[T]):
    """An image that the teacher will be asked about.

    Attributes:
        row: of the image in its source.
        truth: of it, or what stands for one where none is known.
    """

    row: int
    truth: T


@dataclass(frozen=True, eq=False)
class Lesson(Generic[T]):
    """One view of an image, as the teacher is shown it.

    Attributes:
        row: of the image in its source.
        view: which of the views that are kept; None where none are.
        pixels: uint8 RGB (S, S, 3).
        truth: as seen in this view.
    """

    row: int
    view: int | None
    pixels: Image
    truth: T

    def digest(self) -> bytes:
        """Eight bytes that other pixels do not have."""
        return hashlib.blake2b(self.pixels.tobytes(), digest_size=8).digest()


class UnlabelledImages(StoredExamples[T]):
    """Images of which nothing is known."""

    def __init__(self, paths: Sequence[Path], nothing: T) -> None:
        """Args: paths: of the files; nothing: stands for the truth of each."""
        super().__init__(ImageFiles(Path(), [str(path) for path in paths]), ())
        self._nothing = nothing

    def truth(self, index: int) -> T:
        """Nothing."""
        return self._nothing


class Questions(Generic[T]):
    """The images of a source, each with its row: a `datasets.loader.Source[Question[T]]`."""

    def __init__(self, source: Source[T]) -> None:
        self._source = source
        self.warnings = source.warnings

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example[Question[T]]:
        example = self._source[index]
        return Example(example.image, Question(index, example.truth), example.id)

    def id(self, index: int) -> str:
        """The source's."""
        return self._source.id(index)

    def truth(self, index: int) -> Question[T]:
        """The source's, with its row."""
        return Question(index, self._source.truth(index))


class Viewing(Generic[T]):
    """Makes a lesson of a question: the augmented view for the teacher, and the same one scaled for the student."""

    def __init__(self, augmentation: Transform[T], input_size: int, num_views: int | None, seed: int) -> None:
        """How images are seen.

        Args:
            augmentation: makes the teacher's view, of `input_size` pixels or larger.
            input_size: the student's, in pixels.
            num_views: different ones of each image; None for a new one each time.
            seed: of the views.
        """
        self._augmentation, self._input_size = augmentation, input_size
        self._num_views, self._seed = num_views, seed

    def __call__(self, image: Image, question: Question[T], seed: int) -> tuple[Image, Any]:
        """What the student sees, and its lesson; the seed says which of the views it is."""
        view = None if self._num_views is None else seed % self._num_views
        if view is not None:
            seed = int(np.random.SeedSequence([self._seed, question.row, view]).generate_state(1)[0])
        pixels, truth = self._augmentation(image, question.truth, seed)
        lesson = Lesson(question.row, view, pixels, truth)
        if len(pixels) == self._input_size:
            return pixels, lesson
        size = (self._input_size, self._input_size)
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), lesson  # type: ignore[return-value]
