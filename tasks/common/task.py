"""What a task provides. Training, evaluation, prediction and export use a task through these classes alone.

To write a task, subclass `Task` and `Metric` and implement the abstract methods; what is not abstract has a default.
`tests/tasks/test_contract.py` checks a task, and `tasks/attributes` is the one to copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone.weights import Weights, weight_names
from datasets.balance import ClassBalance, Classes, image_weights
from datasets.drawing.boxes import draw_faces
from datasets.files import write_json
from datasets.images.read import Decoding
from datasets.loader import Augment, Collate, Mixing, Order, Preprocess, Source, TrainingSet
from datasets.splits import SplitData
from datasets.types import DetectedFace, Image, PreparedImage, Split
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.thresholds import ThresholdCounts
from tasks.common.weights import TaskWeights

T = TypeVar("T")  # the type of a task's truth and predictions, from `datasets.types`
METADATA = "metadata.json"  # in a run folder
Outputs = Any  # the network's raw outputs: a NamedTuple of tensors, defined by each task
Targets = Any  # the targets of a batch: a NamedTuple of tensors, defined by each task


class FailureCase(NamedTuple, Generic[T]):
    """The most confident error of a prediction.

    Attributes:
        confidence: of the prediction, in [0, 1].
        what: a short description of the error.
        predicted: the wrong part of the prediction.
    """

    confidence: float
    what: str
    predicted: T


class Metric(ABC, Generic[T]):
    """Scores over a split, updated batch by batch; it stores no more of the predictions than the scores need."""

    @abstractmethod
    def update(self, predicted: Sequence[T], truth: Sequence[T]) -> None:
        """Add the predictions of a batch and their ground truth."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add the state of a metric over the images that follow; the scores equal those of one metric over all."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scores by name; a score that is not defined is NaN."""

    @abstractmethod
    def write_details(self, folder: Path) -> None:
        """Write tables and plots that go beyond the scores."""

    def count_at_thresholds(self) -> Sequence[ThresholdCounts]:
        """True and false positives of each class by threshold; none where predictions have no threshold."""
        return ()


class Objective(ABC):
    """A training objective: a network, training examples, and a loss. A task is one; distillation adds another."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The network with its initial weights: uint8 images (N, 3, S, S) -> Outputs.

        A network with the attribute `needs_targets` is called with `(images, targets)` in training.
        """

    @abstractmethod
    def training_set(self) -> TrainingSet[Any]:
        """The augmented training examples."""

    @abstractmethod
    def collate(self) -> Collate[Any]:
        """A function from the examples of a batch to the loss's targets; it is pickled for the loader processes."""

    def order(self) -> Order | None:
        """The sampling order of the training examples; None to shuffle them once per epoch."""
        return None

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Targets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Scalar losses: `total`, which is minimised, and its parts.

        With several processes, the mean of each over the processes is the loss of the whole batch; divide sums by
        `world.normalizer(count)`.
        """


class Task(Objective, Generic[T]):
    """One kind of prediction: builds its data, network, loss, metric and drawings from a configuration.

    Attributes:
        name: of the package, for example `detection`.
        score_name: the score that selects the best checkpoint; higher is better.
        config: the settings, a `TaskConfig` with the task's own `data`.
        metadata: the label map and whatever else decoding needs, as plain JSON; stored in every checkpoint.
    """

    name: str
    score_name: str

    def __init__(self, config: Any, metadata: Mapping[str, Any]) -> None:
        """Args: config: the settings; metadata: see above."""
        self.config = config
        self.metadata = metadata
        self._data: SplitData[Any] | None = None

    @property
    def data(self) -> SplitData[Any]:
        """The data set, opened when first used."""
        if self._data is None:
            self._data = self._open_data()
        return self._data

    @abstractmethod
    def _open_data(self) -> SplitData[Any]:
        """Open the configured data set; each split is read when it is first used."""

    @classmethod
    @abstractmethod
    def from_data(cls, config: Any) -> Self:
        """The task for the configured data set; reads and checks its annotations."""

    @classmethod
    @abstractmethod
    def with_num_classes(cls, config: Any, num_classes: int | None) -> Self:
        """The task without data, for `cost` and `benchmark`; None for the number of classes in the paper."""

    @classmethod
    def from_pretrained(cls, config: Any, weights: Weights) -> Self:
        """The task for weights that are used without training: those of a model of this task.

        Raises:
            ValueError: if they have not this task's outputs.
        """
        if isinstance(weights, TaskWeights) and weights.task == cls.name:
            return cls(config, weights.metadata)
        raise ValueError(
            f"{weights.origin}: has no outputs of tasks.{cls.name}; `python -m tasks.{cls.name} models` lists models "
            "that have, and `train --pretrained` makes one from these weights"
        )

    @classmethod
    def read_published(cls, path: Path) -> TaskWeights | None:
        """The weights in a published file of this task's models; None if it is another kind of file.

        Raises:
            ValueError: if it is damaged.
        """
        return None

    @property
    def decoding(self) -> Decoding:
        """How image files become pixels, at full size; a source whose crops need less may decode smaller ones."""
        return Decoding(pixel_range=self.config.data.pixel_range)

    @abstractmethod
    def source(self, split: Split) -> Source[T]:
        """The examples of a split as stored; its `warnings` list what was repaired or skipped."""

    @abstractmethod
    def augmentation(self) -> Augment[T]:
        """The augmentation of one training example; it is pickled for the loader processes."""

    def mixing(self) -> Mixing[T] | None:
        """The augmentation that mixes the examples of a batch, such as MixUp; None for none."""
        return None

    def order(self) -> Order | None:
        """Classes balanced by `optim.balance`; None for 0, where each image is shown once an epoch."""
        if not self.config.optim.balance:
            return None
        source = self.source("train")
        return ClassBalance(self.balance_weights([source.truth(row) for row in range(len(source))]))

    def classes_of(self, truths: Sequence[T]) -> Sequence[Classes]:
        """The classes of each image, which `optim.balance` balances.

        Raises:
            ValueError: if the task has none, or balances them by other means.
        """
        raise ValueError(f"optim.balance: expected 0 in tasks.{self.name}, which does not balance classes by sampling")

    def balance_weights(self, truths: Sequence[T]) -> NDArray[np.float64]:
        """How often each training image is shown, in proportion, by `optim.balance`."""
        return image_weights(self.classes_of(truths), self.config.optim.balance)

    def with_settings(self, config: Any) -> Self:
        """The same task, with its data as read, for other settings of the network."""
        task = type(self)(config, self.metadata)
        task._data = self._data
        return task

    def kept(self, weights: Weights) -> dict[str, int]:
        """What of those weights the network starts from: the part, in words, and its number of tensors.

        Raises:
            ValueError: if they do not fit the backbone.
        """
        names = weight_names(self.build_model().state_dict())
        return {"the backbone": sum(name.startswith("backbone.") for name in names)}

    def training_set(self) -> TrainingSet[T]:
        """The training split, augmented and mixed."""
        return TrainingSet(self.source("train"), self.augmentation(), self.config.seed, self.mixing())

    @abstractmethod
    def preprocessing(self) -> Preprocess:
        """A function from an image (H, W, 3) to the network's input (S, S, 3); it is pickled for loader processes."""

    def prepare(self, image: Image) -> list[PreparedImage]:
        """The network's input for each prediction that an image gets: one, or one for each detected face."""
        return [PreparedImage(self.preprocessing()(image))]

    @abstractmethod
    def decode(self, outputs: Outputs) -> list[T]:
        """One prediction per image."""

    @abstractmethod
    def metric(self) -> Metric[T]:
        """A new, empty metric."""

    def failure_case(self, predicted: T, truth: T) -> FailureCase[T] | None:
        """The most confident error of a prediction; None if it is correct."""
        return None

    @abstractmethod
    def draw(self, image: Image, predicted: T, truth: T | None = None) -> Image:
        """A copy of the image with the prediction drawn, and the truth beside it if given."""

    def draw_failure_case(self, image: Image, case: FailureCase[T], truth: T) -> Image:
        """A picture of a failure case beside the truth."""
        return self.draw(image, case.predicted, truth)

    @abstractmethod
    def describe(self, predicted: T, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The prediction for an image of that size as a JSON record."""

    def in_image(self, predicted: T, image_hw: tuple[int, int]) -> T:
        """The prediction as users get it: in pixels of an image of that size, without what is below the threshold."""
        return predicted

    def summarize(self, predicted: Sequence[T]) -> str:
        """The predictions for an image in a line; there are several, or none, where faces are detected."""
        return ", ".join(map(str, predicted))

    def table(self, predicted: Sequence[T]) -> dict[str, NDArray[Any]]:
        """The predictions for an image as columns of equal length, whose names and types are always the same."""
        return {"prediction": np.array([*predicted, None], object)[:-1]}

    def draw_all(self, image: Image, predicted: Sequence[T], faces: Sequence[DetectedFace]) -> Image:
        """A copy of the image with its prediction drawn, or with all its faces and a short label of each.

        Args:
            image: (H, W, 3).
            predicted: one for the image, or one for each face, of which there may be none.
            faces: that were detected; empty where the task has no face detector.
        """
        if len(faces) != len(predicted):
            (only,) = predicted
            return self.draw(image, only)
        labels = [self.face_label(one, number) for number, one in enumerate(predicted, 1)]
        return draw_faces(image, [face.box_xyxy for face in faces], labels)

    def describe_all(
        self, predicted: Sequence[T], faces: Sequence[DetectedFace], image_hw: tuple[int, int]
    ) -> dict[str, Any]:
        """The prediction for an image of that size as a JSON record, or those for its `faces`; see `draw_all`."""
        if len(faces) != len(predicted):
            (only,) = predicted
            return self.describe(only, image_hw)
        records = [face.to_record() | self.describe(one, image_hw) for face, one in zip(faces, predicted, strict=True)]
        return {"faces": records}

    def face_label(self, predicted: T, number: int) -> str:
        """A short label of a detected face: by default its number in the image, from 1."""
        return str(number)

    def write_metadata(self, folder: Path) -> None:
        """Write the metadata as human-readable files."""
        write_json(folder / METADATA, dict(self.metadata))
