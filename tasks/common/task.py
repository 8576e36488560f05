"""What a task offers. The loop, evaluation, prediction and the command line know a task by this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor, nn

from datasets.loader import Mixing, Order, Source, Transform
from datasets.types import Image

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
Split = Literal["train", "val"]
VOCABULARY = "vocabulary.json"  # in a run folder
Outputs = Any  # a NamedTuple of raw tensors, one kind for each task


class Mistake(NamedTuple, Generic[T]):
    """What a prediction states and is not true.

    Attributes:
        confidence: of the prediction, in [0, 1].
        what: in a few words.
        predicted: the wrong part of the prediction.
    """

    confidence: float
    what: str
    predicted: T


class Metric(Protocol[T_contra]):
    """A score over a whole split."""

    def update(self, predicted: Sequence[T_contra], truth: Sequence[T_contra]) -> None:
        """Take in the predictions for some images and what is true of them."""

    def compute(self) -> dict[str, float]:
        """The scores of all that was taken in; a score that is not defined is NaN."""

    def write_details(self, folder: Path) -> None:
        """Tables and pictures that say more than the scores do."""


class Trainable(Protocol[T]):
    """The parts of one kind of prediction, named in one place: all that the loop knows.

    Attributes:
        name: of the package, for example `detection`.
        score_name: the metric by which the best checkpoint is chosen; larger is better.
        config: the settings, a `TaskConfig` with the task's own `data`.
        vocabulary: what the outputs stand for (class names, ...), as plain JSON; kept in every checkpoint.
    """

    name: str
    score_name: str
    config: Any
    vocabulary: Mapping[str, Any]

    def build_model(self) -> nn.Module:
        """The network with its initial weights: uint8 images (N, 3, S, S) -> Outputs."""

    def source(self, split: Split) -> Source[T]:
        """The examples of a split, as stored; repairs are listed in its `warnings`."""

    def augmentation(self) -> Transform[T]:
        """What is done to an example for training."""

    def order(self) -> Order | None:
        """In which order training images come; None for each once in an epoch, shuffled."""

    def mixing(self) -> Mixing[T] | None:
        """What is then done to the examples of a batch together, if anything."""

    def preprocess(self, image: Image) -> Image:
        """What is done to an image for prediction: (H, W, 3) -> (S, S, 3)."""

    def hints(self, truth: Sequence[T]) -> tuple[Any, ...]:
        """What the network is told of the truth while it learns, after the images; mostly nothing."""

    def loss(self, outputs: Outputs, truth: Sequence[T]) -> dict[str, Tensor]:
        """Scalars: `total`, which is minimised, and its parts."""

    def decode(self, outputs: Outputs) -> list[T]:
        """One prediction for each image."""

    def metric(self) -> Metric[T]:
        """An empty metric."""

    def mistake(self, predicted: T, truth: T) -> Mistake[T] | None:
        """The most confident mistake of a prediction; None where nothing is wrong."""

    def draw(self, image: Image, predicted: T, truth: T | None = None) -> Image:
        """A picture of a prediction, beside the truth where it is known."""

    def describe(self, predicted: T, image_hw: tuple[int, int]) -> dict[str, Any]:
        """A prediction for an image of that size as one JSON record."""

    def write_vocabulary(self, folder: Path) -> None:
        """What the outputs stand for, as files that a person can read."""


class Task(Trainable[T], Protocol[T]):
    """One kind of prediction, and the ways to make it from a configuration."""

    def __init__(self, config: Any, vocabulary: Mapping[str, Any]) -> None: ...

    @classmethod
    def from_data(cls, config: Any) -> Self:
        """The task for the data that the configuration names, whose annotations are read and checked now."""

    @classmethod
    def with_num_classes(cls, config: Any, num_classes: int | None) -> Self:
        """The task without data, for as many classes as said, or as the paper's."""

    @classmethod
    def from_published(cls, config: Any) -> Self:
        """The task of published weights, whose network needs no training.

        Raises:
            ValueError: if no published weights have this task's outputs.
        """
