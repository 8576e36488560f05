"""Distillation as a training objective; the student is evaluated as its own task."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor

from datasets.loader import Collate, Order
from datasets.shards.order import shard_order
from datasets.sources import Source
from distill.ensemble import TeacherEnsemble
from distill.loss import hint_loss
from distill.objectives import DistillObjective
from distill.student import Student, StudentOutputs, require_map
from distill.teacher import at_input_size
from distill.views import DistillTargets, PairedViews, distill_targets
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Objective, Task


class Distillation(Objective):
    """The student's network with a distillation loss; the result is a run of the student's task."""

    def __init__(
        self,
        student: Task[Any],
        teachers: TeacherEnsemble,
        objective: DistillObjective,
        images: Source[Any],
        *,
        alpha: float,
        num_views: int | None,
        hint_stride: int | None,
        face_part: tuple[float, float, float, float] | None = None,
    ) -> None:
        """Set up the objective.

        Args:
            student: the student's task.
            teachers: to distil.
            objective: how their outputs are distilled.
            images: to train on; their truth is used only where `alpha` is not 0.
            alpha: weight of the task's own loss.
            num_views: fixed views of each image; None for a new one in each epoch.
            hint_stride: of the feature map that is trained to match the teacher's; None for none.
            face_part: region cut out of each training image; None for the one in the task's settings.

        Raises:
            ValueError: if the settings mix training images, for which there are no teacher outputs.
        """
        if student.mixing() is not None:
            raise ValueError("augment: mixup_alpha and cutmix_alpha must be 0, since teachers see unmixed images")
        self._student, self._teachers, self._objective, self._images = student, teachers, objective, images
        self._alpha, self._num_views, self._hint_stride = alpha, num_views, hint_stride
        self._face_part = face_part

    def build_model(self) -> Student:
        """The student's network with its training-only layers."""
        network = self._student.build_model()
        projection = self._objective.projection(network, self._teachers.output_shape)
        hint = None
        if self._hint_stride is not None:
            require_map(network, self._hint_stride, "the student")
            hint = self._hint_stride, self._teachers.hint_shape[0]
        return Student(network, projection, hint)

    def dry_run(self) -> None:
        """Compute the loss of a black image, so that a mismatch is found before anything is written.

        Raises:
            ValueError: if the teachers' outputs do not fit the student.
        """
        side = self._student.config.data.input_size
        with torch.no_grad():
            outputs = self.build_model().eval()(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        self._objective.loss(outputs, self._teachers.dummy_outputs.outputs.to(outputs.projected.device))

    def training_set(self) -> PairedViews[Any]:
        """The images with the student's augmentation, at the larger input size of student and teachers."""
        config = self._student.config
        task = at_input_size(self._student, max(config.data.input_size, self._teachers.view_size))
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
        """Shuffled, or the order that the task's own loss needs."""
        if self._alpha or self._student.config.optim.balance:
            return self._student.order()
        return shard_order(self._images)

    def collate(self) -> Collate[Any]:
        """The teachers' images, and the targets of the task's own loss if one of both losses needs them."""
        needs_own = self._alpha or self._objective.needs_targets
        return partial(distill_targets, own=self._student.collate() if needs_own else None)

    def loss(
        self, outputs: StudentOutputs, targets: DistillTargets, world: World = SINGLE_PROCESS
    ) -> dict[str, Tensor]:
        """The distillation loss and the task's own.

        total = (1 - alpha) teacher + alpha own + hint
        """
        teacher_outputs = self._teachers(targets)
        teacher_loss = self._objective.loss(outputs, teacher_outputs.outputs, world, targets.own)
        losses = {"total": (1 - self._alpha) * teacher_loss, "teacher": teacher_loss}
        if self._alpha:
            losses["own"] = self._student.loss(outputs.own, targets.own, world)["total"]
            losses["total"] = losses["total"] + self._alpha * losses["own"]
        if self._hint_stride is not None:
            losses["hint"] = hint_loss(outputs.hint, teacher_outputs.hint)
            losses["total"] = losses["total"] + losses["hint"]
        return losses
