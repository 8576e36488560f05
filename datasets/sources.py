"""What every data set is: examples in an order, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from datasets.face_detection import NoFaceError
from datasets.images.read import UnreadableImageError
from datasets.types import Example, Image, Unreadable

T = TypeVar("T")

# image -> image at the network's input size
Preprocess = Callable[[Image], Image]


class Source(Protocol[T]):
    """A data set of examples, as stored.

    Attributes:
        warnings: a line for each kind of repaired or skipped annotation, with its count.
    """

    warnings: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Example[T]: ...

    def id(self, index: int, /) -> str:
        """The id of an example, without opening its image."""

    def truth(self, index: int, /) -> T:
        """The truth of an example, without opening its image."""


def read_example(source: Source[T], row: int, prepare: Callable[[Example[T]], Example[T]]) -> Example[T] | Unreadable:
    """A prepared example of a source, or `Unreadable` in its place."""
    try:
        example = source[row]
    except UnreadableImageError as error:
        return unreadable_example(str(error), error)
    try:
        return prepare(example)
    except UnreadableImageError as error:  # the preprocessing refused it
        return unreadable_example(f"{example.id}: {error}", error)


def unreadable_example(reason: str, error: UnreadableImageError) -> Unreadable:
    """What stands in for an image that raised that error."""
    return Unreadable(reason, is_empty=isinstance(error, NoFaceError))


class EvaluationSet(Generic[T]):
    """A source with preprocessed images and truth as stored, indexed by row."""

    def __init__(self, source: Source[T], preprocess: Preprocess) -> None:
        """Args: source: examples; preprocess: from image to network input."""
        self._source = source
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int) -> Example[T] | Unreadable:
        """The preprocessed example, or `Unreadable`."""
        return read_example(self._source, row, lambda e: replace(e, image=self._preprocess(e.image), row=row))
