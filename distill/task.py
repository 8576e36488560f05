"""What a student learns from its teachers; it is evaluated as its own task."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor

from datasets.loader import Collate, Order, Source
from distill.loss import hint_loss
from distill.student import Student, StudentOutputs
from distill.subjects import Subject
from distill.teachers import at_input_size
from distill.teaching import Teaching
from distill.views import DistillTargets, PairedViews, distill_targets
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Objective, Task


class Distillation(Objective):
    """The student's network with another loss; what comes of it is a run of the student's task."""

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
        self._student, self._teaching, self._subject, self._images = student, teaching, subject, images
        self._alpha, self._num_views, self._hint_stride = alpha, num_views, hint_stride
        self._face_part = face_part

    def build_model(self) -> Student:
        """The student, and beside it what brings its outputs to the teacher's size."""
        network = self._student.build_model()
        projection = self._subject.projection(network, self._teaching.answer_shape)
        hint = None if self._hint_stride is None else (self._hint_stride, self._teaching.hint_shape[0])
        return Student(network, projection, hint)

    def dry_run(self) -> None:
        """Compare one black image's outputs, so that what cannot be taught is known before anything is written.

        Raises:
            ValueError: if the teacher's answers are not for this student.
        """
        side = self._student.config.data.input_size
        with torch.no_grad():
            outputs = self.build_model().eval()(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        self._subject.loss(outputs, self._teaching.blank.answer.to(outputs.compared.device))

    def training_set(self) -> PairedViews[Any]:
        """The images with the student's augmentation, at the larger of both sides' sizes."""
        config = self._student.config
        task = at_input_size(self._student, max(config.data.input_size, self._teaching.view_size))
        if self._face_part is not None:
            data = dataclasses.replace(task.config.data, face_part=self._face_part)
            task = type(task)(dataclasses.replace(task.config, data=data), task.metadata)
        return PairedViews(
            self._images,
            task.augmentation(),
            config.seed,
            input_size=config.data.input_size,
            num_views=self._num_views,
        )

    def order(self) -> Order | None:
        """Shuffled, or what the task's own loss needs."""
        return self._student.order() if self._alpha else None

    def collate(self) -> Collate[Any]:
        """The teacher's pixels, and the targets of the task's own loss where it counts."""
        return partial(distill_targets, own=self._student.collate() if self._alpha else None)

    def loss(
        self, outputs: StudentOutputs, targets: DistillTargets, world: World = SINGLE_PROCESS
    ) -> dict[str, Tensor]:
        """The teacher's and the task's own.

        total = (1 - alpha) teacher + alpha own + hint
        """
        taught = self._teaching(targets)
        teacher = self._subject.loss(outputs, taught.answer, world)
        losses = {"total": (1 - self._alpha) * teacher, "teacher": teacher}
        if self._alpha:
            losses["own"] = self._student.loss(outputs.own, targets.own, world)["total"]
            losses["total"] = losses["total"] + self._alpha * losses["own"]
        if self._hint_stride is not None:
            losses["hint"] = hint_loss(outputs.hint, taught.hint)
            losses["total"] = losses["total"] + losses["hint"]
        return losses
