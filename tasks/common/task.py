"""What a task provides. Training, evaluation, prediction and export use a task through these classes alone.

To write a task, subclass `Task` and `Metric` and implement the abstract methods; what is not abstract has a default.
`tests/tasks/test_contract.py` checks a task, and `tasks/attributes` is the one to copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone.weights import Weights, weight_names
from datasets.balance import ClassBalance, Classes, image_weights
from datasets.loader import Augment, Collate, Mixing, Order, TrainingSet
from datasets.shards.order import shard_order
from tasks.common.inference_task import InferenceTask
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.weights import TaskWeights, is_model_of

if TYPE_CHECKING:
    from onnx import GraphProto

T = TypeVar("T")  # the type of a task's truth and predictions, from `datasets.types`
Outputs = Any  # the network's raw outputs: a NamedTuple of tensors, defined by each task
Targets = Any  # the targets of a batch: a NamedTuple of tensors, defined by each task


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


class Task(InferenceTask[T], Objective):
    """A task in full: an `InferenceTask` with the network, its loss, and what training needs."""

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
        if is_model_of(weights, cls.name):
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

    @abstractmethod
    def augmentation(self) -> Augment[T]:
        """The augmentation of one training example; it is pickled for the loader processes."""

    def mixing(self) -> Mixing[T] | None:
        """The augmentation that mixes the examples of a batch, such as MixUp; None for none."""
        return None

    def order(self) -> Order | None:
        """Classes balanced by `optim.balance`; for 0 each image is shown once an epoch, see `shard_order`."""
        source = self.source("train")
        if not self.config.optim.balance:
            return shard_order(source)
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
    def decode(self, outputs: Outputs) -> list[T]:
        """One prediction per image."""

    @abstractmethod
    def postprocessing(self, network: nn.Module) -> GraphProto:
        """What `decode` computes, as an ONNX graph from the network's raw outputs to those that `read_outputs` takes.

        Raises:
            ValueError: if there is none for that network.
        """
