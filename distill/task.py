"""A distillation is a task like the student's, whose truth is what the teacher says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datasets.loader import Order, Source, Transform
from datasets.types import Image
from distill.lessons import Lesson, Questions, Viewing
from distill.loss import hint_loss
from distill.student import Student, StudentOutputs
from distill.subjects import Subject
from distill.teachers import at_input_size
from distill.teaching import Teaching
from tasks.common.task import Metric, Mistake, Split, Task, Trainable


class DistillTask:
    """The student's task with another loss: a `tasks.common.task.Trainable`, whose runs are runs of that task."""

    def __init__(
        self,
        student: Task[Any],
        teaching: Teaching,
        subject: Subject,
        images: Source[Any],
        *,
        alpha: float,
        num_views: int | None,
        hint_stride: int | None,
        face_part: tuple[float, float, float, float] | None = None,
    ) -> None:
        """What is learnt.

        Args:
            student: what the student is evaluated as.
            teaching: the teachers.
            subject: what they teach.
            images: to learn from; their truth counts only where `alpha` is not 0.
            alpha: share of the task's own loss.
            num_views: of each image; None for new ones in each epoch.
            hint_stride: of the map that learns to be like the teacher's; None for none.
            face_part: what is cut out of each training image; None for what the task cuts out of its own.

        Raises:
            ValueError: if training images are mixed, which no teacher has an answer for.
        """
        if student.mixing() is not None:
            raise ValueError("augment: mixup_alpha and cutmix_alpha must be 0, since a teacher is asked about images")
        self.name, self.score_name = student.name, student.score_name
        self.config, self.vocabulary = student.config, student.vocabulary
        self._student, self._teaching, self._subject = student, teaching, subject
        self._questions = Questions(images)
        self._alpha, self._num_views, self._hint_stride = alpha, num_views, hint_stride
        self._face_part = face_part

    def build_model(self) -> Student:
        """The student, and beside it what brings its outputs to the teacher's size."""
        network = self._student.build_model()
        projection = self._subject.projection(network, self._teaching.answer_shape)
        hint = None if self._hint_stride is None else (self._hint_stride, self._teaching.hint_shape[0])
        return Student(network, projection, hint)

    def try_out(self) -> None:
        """Compare one black image's outputs, so that what cannot be taught is known before anything is written.

        Raises:
            ValueError: if the teacher's answers are not for this student.
        """
        side = self.config.data.input_size
        with torch.no_grad():
            outputs = self.build_model().eval()(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        blank = self._teaching.blank.answer.to(outputs.compared.device)
        self._subject.loss(outputs, blank)

    def source(self, split: Split) -> Source[Any]:
        """What is learnt from as questions; for validation the student's images."""
        return self._questions if split == "train" else self._student.source(split)

    def augmentation(self) -> Transform[Any]:
        """The student's, at the larger of both sides' sizes."""
        input_size = self.config.data.input_size
        task = at_input_size(self._student, max(input_size, self._teaching.view_size))
        if self._face_part is not None:
            data = dataclasses.replace(task.config.data, face_part=self._face_part)
            task = type(task)(dataclasses.replace(task.config, data=data), task.vocabulary)
        return Viewing(task.augmentation(), input_size, self._num_views, self.config.seed)

    def order(self) -> Order | None:
        """Shuffled, or what the task's own loss needs."""
        return self._student.order() if self._alpha else None

    def mixing(self) -> None:
        """Nothing."""

    def preprocess(self, image: Image) -> Image:
        """The student's."""
        return self._student.preprocess(image)

    def hints(self, truth: Sequence[Lesson[Any]]) -> tuple[Any, ...]:
        """Nothing: whom a network must tell the truth cannot be taught without it."""
        return ()

    def loss(self, outputs: StudentOutputs, truth: Sequence[Lesson[Any]]) -> dict[str, Tensor]:
        """The teacher's and the task's own.

        total = (1 - alpha) teacher + alpha own + hint
        """
        taught = self._teaching(truth)
        teacher = self._subject.loss(outputs, taught.answer)
        losses = {"total": (1 - self._alpha) * teacher, "teacher": teacher}
        if self._alpha:
            losses["own"] = self._student.loss(outputs.own, [lesson.truth for lesson in truth])["total"]
            losses["total"] = losses["total"] + self._alpha * losses["own"]
        if self._hint_stride is not None:
            losses["hint"] = hint_loss(outputs.hint, taught.hint)
            losses["total"] = losses["total"] + losses["hint"]
        return losses

    def decode(self, outputs: Any) -> list[Any]:
        """The student's."""
        return self._student.decode(outputs)

    def metric(self) -> Metric[Any]:
        """The student's."""
        return self._student.metric()

    def mistake(self, predicted: Any, truth: Any) -> Mistake[Any] | None:
        """The student's."""
        return self._student.mistake(predicted, truth)

    def draw(self, image: Image, predicted: Any, truth: Any | None = None) -> Image:
        """The student's."""
        return self._student.draw(image, predicted, truth)

    def describe(self, predicted: Any, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The student's."""
        return self._student.describe(predicted, image_hw)

    def write_vocabulary(self, folder: Path) -> None:
        """The student's."""
        self._student.write_vocabulary(folder)


if TYPE_CHECKING:
    _is_trainable: type[Trainable[Any]] = DistillTask
