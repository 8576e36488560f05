"""What a task offers. The loop, evaluation, prediction and the command line know a task by this alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

from torch import Tensor, nn

from datasets.files import write_json
from datasets.loader import Augment, Collate, Mixing, Order, Preprocess, Source, TrainingSet
from datasets.types import Image, Split
from tasks.common.runtime.distributed import SINGLE_PROCESS, World

T = TypeVar("T")
METADATA = "metadata.json"  # in a run folder
Outputs = Any  # a NamedTuple of raw tensors, one kind for each task
Targets = Any  # the same of what is true


class FailureCase(NamedTuple, Generic[T]):
    """What a prediction states and is not true.

    Attributes:
        confidence: of the prediction, in [0, 1].
        what: in a few words.
        predicted: the wrong part of the prediction.
    """

    confidence: float
    what: str
    predicted: T


class Metric(ABC, Generic[T]):
    """A score over a whole split, taken in batch by batch; it keeps no more of them than the score needs."""

    @abstractmethod
    def update(self, predicted: Sequence[T], truth: Sequence[T]) -> None:
        """Take in the predictions for some images and what is true of them."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another one has, of images that follow: the score is that of one metric that saw them all."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scores of all that was taken in; a score that is not defined is NaN."""

    @abstractmethod
    def write_details(self, folder: Path) -> None:
        """Tables and pictures that say more than the scores do."""


class Objective(ABC):
    """What is learnt: a network, examples, and a loss. A task is one; a distillation is another one for its student."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The network with its initial weights: uint8 images (N, 3, S, S) -> Outputs.

        One that must see the targets while it learns has an attribute `needs_targets`, and takes them after the images.
        """

    @abstractmethod
    def training_set(self) -> TrainingSet[Any]:
        """The training examples, augmented."""

    @abstractmethod
    def collate(self) -> Collate[Any]:
        """A function that is sent to loader processes: the examples of a batch -> the loss's targets."""

    def order(self) -> Order | None:
        """In which order training images come; None for each once in an epoch, shuffled."""
        return None

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Targets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Scalars: `total`, which is minimised, and its parts; their means over the processes are the whole batch's."""


class Task(Objective, Generic[T]):
    """One kind of prediction: its parts, named in one place, and the ways to make it from a configuration.

    Attributes:
        name: of the package, for example `detection`.
        score_name: the metric by which the best checkpoint is chosen; larger is better.
        config: the settings, a `TaskConfig` with the task's own `data`.
        metadata: what the outputs stand for (class names, ...), as plain JSON; kept in every checkpoint.
    """

    name: str
    score_name: str

    def __init__(self, config: Any, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: see above."""
        self.config = config
        self.metadata = metadata

    @classmethod
    @abstractmethod
    def from_data(cls, config: Any) -> Self:
        """The task for the data that the configuration names, whose annotations are read and checked now."""

    @classmethod
    @abstractmethod
    def with_num_classes(cls, config: Any, num_classes: int | None) -> Self:
        """The task without data, for as many classes as said, or as the paper's."""

    @classmethod
    def from_published(cls, config: Any) -> Self:
        """The task of published weights, whose network needs no training.

        Raises:
            ValueError: if no published weights have this task's outputs.
        """
        raise ValueError(f"--run: expected a run folder; there are no published weights of tasks.{cls.name}")

    @abstractmethod
    def source(self, split: Split) -> Source[T]:
        """The examples of a split, as stored; repairs are listed in its `warnings`."""

    @abstractmethod
    def augmentation(self) -> Augment[T]:
        """What is done to an example for training; it is sent to loader processes."""

    def mixing(self) -> Mixing[T] | None:
        """What is then done to the examples of a batch together, if anything."""
        return None

    def training_set(self) -> TrainingSet[T]:
        """The training split, augmented and mixed."""
        return TrainingSet(self.source("train"), self.augmentation(), self.config.seed, self.mixing())

    @abstractmethod
    def preprocessing(self) -> Preprocess:
        """What is done to an image for prediction, (H, W, 3) -> (S, S, 3); it is sent to loader processes."""

    @abstractmethod
    def decode(self, outputs: Outputs) -> list[T]:
        """One prediction for each image."""

    @abstractmethod
    def metric(self) -> Metric[T]:
        """An empty metric."""

    def failure_case(self, predicted: T, truth: T) -> FailureCase[T] | None:
        """The most confident mistake of a prediction; None where nothing is wrong."""
        return None

    @abstractmethod
    def draw(self, image: Image, predicted: T, truth: T | None = None) -> Image:
        """A picture of a prediction, beside the truth where it is known."""

    @abstractmethod
    def describe(self, predicted: T, image_hw: tuple[int, int]) -> dict[str, Any]:
        """A prediction for an image of that size as one JSON record."""

    def write_metadata(self, folder: Path) -> None:
        """What the outputs stand for, as files that a person can read."""
        write_json(folder / METADATA, dict(self.metadata))
