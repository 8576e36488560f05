"""What can be taught: for each kind of output, what of a teacher's counts, how several agree, and the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from datasets.types import Detections
from distill.config import ClassLoss
from distill.loss import box_loss, dist_loss, dkd_loss, embedding_loss, kd_loss
from distill.student import StudentOutputs, build_rotation
from tasks.attributes.loss import AttributeTargets
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task

SURE = 1e-6  # a probability is at least so far from 0 and 1


class Subject(Protocol):
    """One kind of output.

    Attributes:
        nothing: stands for the truth of an image without labels.
    """

    nothing: Any

    def answer(self, teacher_task: Any, outputs: Any) -> Tensor:
        """What a teacher's raw outputs for N images teach, (N, ...); it is kept in halves."""

    def agree(self, answers: Sequence[Tensor]) -> Tensor:
        """Several teachers' answers as one."""

    def projection(self, network: Any, answer_shape: Sequence[int]) -> nn.Module:
        """What brings the student's first output to an answer's size.

        Raises:
            ValueError: if such answers cannot teach this network.
        """

    def loss(self, outputs: StudentOutputs, answer: Tensor, world: World = SINGLE_PROCESS) -> Tensor:
        """How far the student is from the answers; its mean over the processes is the whole batch's."""


def build_subject(task: Task[Any], *, class_loss: ClassLoss, temperature: float) -> Subject:
    """What a student of that task is taught; loss and temperature are those of classes.

    Raises:
        ValueError: if the task's outputs cannot be taught.
    """
    metadata = task.metadata
    if task.name == "embedding":
        return Embeddings()
    if task.name == "attributes":
        return AttributeValues(task)
    if task.name == "detection":
        return Boxes()
    if task.name == "classification":
        return Classes([len(metadata["class_names"])], class_loss, temperature)
    if task.name == "geolocation":
        return Classes([len(columns["cell"]) for columns in metadata["partitionings"]], class_loss, temperature)
    raise ValueError(f"--task: nobody can teach {task.name} yet")


class Embeddings:
    """Points on the unit sphere."""

    nothing = None

    def answer(self, teacher_task: Any, outputs: Any) -> Tensor:
        """(N, D)."""
        embeddings: Tensor = outputs.embeddings
        return embeddings

    def agree(self, answers: Sequence[Tensor]) -> Tensor:
        """Side by side, so that the cosine of two images is the mean of the teachers'."""
        beside: Tensor = torch.cat(list(answers), 1) / len(answers) ** 0.5
        return beside

    def projection(self, network: Any, answer_shape: Sequence[int]) -> nn.Module:
        """A rotation into the teacher's space."""
        return build_rotation(network.head.embedding_dim, answer_shape[0])

    def loss(self, outputs: StudentOutputs, answer: Tensor, world: World = SINGLE_PROCESS) -> Tensor:
        """The squared distance."""
        return embedding_loss(outputs.compared, answer)


class Classes:
    """One softmax over classes, or one for each partitioning of the Earth."""

    nothing = None

    def __init__(self, sizes: Sequence[int], class_loss: ClassLoss, temperature: float) -> None:
        """Args: sizes: outputs of each softmax; class_loss, temperature: what is minimised."""
        self._sizes, self._class_loss, self._temperature = list(sizes), class_loss, temperature

    def answer(self, teacher_task: Any, outputs: Any) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = outputs.logits
        return logits

    def agree(self, answers: Sequence[Tensor]) -> Tensor:
        """The logarithm of the mean probability."""
        parts = zip(*(torch.split(answer, self._sizes, 1) for answer in answers), strict=True)
        return torch.cat([_log_mean([logits.log_softmax(1) for logits in part]) for part in parts], 1)

    def projection(self, network: Any, answer_shape: Sequence[int]) -> nn.Module:
        """Nothing to learn."""
        return _same_shape((sum(self._sizes),), answer_shape, "logits")

    def loss(self, outputs: StudentOutputs, answer: Tensor, world: World = SINGLE_PROCESS) -> Tensor:
        """The mean over softmaxes."""
        pairs = zip(torch.split(outputs.compared, self._sizes, 1), torch.split(answer, self._sizes, 1), strict=True)
        return torch.stack([self._loss(student, teacher, world) for student, teacher in pairs]).mean()

    def _loss(self, student: Tensor, teacher: Tensor, world: World) -> Tensor:
        if self._class_loss == "dist":
            student, teacher = world.all_rows(student), world.all_rows(teacher)  # it compares the images of a batch
            return dist_loss(student, teacher, temperature=self._temperature)
        if self._class_loss == "dkd":  # the teacher's choice stands for the label, so that none is needed
            return dkd_loss(student, teacher, teacher.argmax(1), temperature=self._temperature)
        return kd_loss(student, teacher, temperature=self._temperature)


class AttributeValues:
    """Attributes that each is there or not."""

    nothing = None

    def __init__(self, task: Task[Any]) -> None:
        """Args: task: the student's; its loss takes probabilities for truth."""
        self._task = task

    def answer(self, teacher_task: Any, outputs: Any) -> Tensor:
        """log(p / (1 - p)) (N, K), of the teacher's probabilities, whatever weights it has learnt with."""
        logits: Tensor = teacher_task.probabilities(outputs).logit(SURE)
        return logits

    def agree(self, answers: Sequence[Tensor]) -> Tensor:
        """Of the mean probability."""
        return torch.stack([answer.sigmoid() for answer in answers]).mean(0).logit(SURE)

    def projection(self, network: Any, answer_shape: Sequence[int]) -> nn.Module:
        """Nothing to learn."""
        return _same_shape((len(self._task.metadata["attribute_names"]),), answer_shape, "attributes")

    def loss(self, outputs: StudentOutputs, answer: Tensor, world: World = SINGLE_PROCESS) -> Tensor:
        """Binary cross-entropy with the teacher's probabilities (Howard et al. 2017, section 4.5)."""
        return self._task.loss(outputs.own, AttributeTargets(answer.sigmoid()), world)["total"]


class Boxes:
    """SSD's scores and offsets, of the same anchors."""

    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (1, 1))

    def answer(self, teacher_task: Any, outputs: Any) -> Tensor:
        """Class logits and offsets side by side, (N, A, K + 5)."""
        return torch.cat([outputs.class_logits, outputs.box_deltas], 2)

    def agree(self, answers: Sequence[Tensor]) -> Tensor:
        """The logarithm of the mean probability, and the mean offset."""
        scores = _log_mean([answer[..., :-4].log_softmax(-1) for answer in answers])
        return torch.cat([scores, torch.stack([answer[..., -4:] for answer in answers]).mean(0)], -1)

    def projection(self, network: Any, answer_shape: Sequence[int]) -> nn.Module:
        """Nothing to learn."""
        if not hasattr(network, "class_predictors"):
            raise ValueError("model: expected ssd; Faster R-CNN looks at regions of its own, which no teacher knows")
        return nn.Identity()

    def loss(self, outputs: StudentOutputs, answer: Tensor, world: World = SINGLE_PROCESS) -> Tensor:
        """Both parts."""
        logits, deltas = outputs.own.class_logits, outputs.own.box_deltas
        have, want = (*answer.shape[1:2], answer.shape[2] - 4), tuple(logits.shape[1:])
        if have != want:
            raise ValueError(f"the teacher has {have} anchors and classes, the student {want}: it cannot teach it")
        classes, boxes = box_loss(logits, deltas, answer, world)
        return classes + boxes


def _log_mean(log_probabilities: Sequence[Tensor]) -> Tensor:
    mean: Tensor = torch.stack(list(log_probabilities)).logsumexp(0) - math.log(len(log_probabilities))
    return mean


def _same_shape(want: tuple[int, ...], have: Sequence[int], what: str) -> nn.Module:
    if tuple(have) != want:
        raise ValueError(f"the teacher has {have[0]} {what}, the student {want[0]}: it cannot teach it")
    return nn.Identity()
