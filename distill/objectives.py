"""The distillation of each task: which teacher outputs are used, how several teachers are combined, and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.types import VOID, Detections, Mask
from distill.config import ClassLoss
from distill.loss import box_loss, dist_loss, dkd_loss, embedding_loss, kd_loss, pixel_loss
from distill.student import StudentOutputs, build_rotation
from tasks.attributes.loss import AttributeTargets
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Targets, Task
from tasks.segmentation.layers import resize_map
from tasks.segmentation.loss import SegmentationTargets
from tasks.segmentation.model import AuxiliaryOutputs

PROBABILITY_EPS = 1e-6  # probabilities are clamped to [eps, 1 - eps] before the logit


class DistillObjective(Protocol):
    """How one kind of output is distilled.

    Attributes:
        dummy_truth: the truth of an unlabelled image, for augmentation.
        needs_targets: whether the loss needs the targets of the task's own loss, those of `dummy_truth` included.
    """

    dummy_truth: Any
    needs_targets: bool

    def teacher_outputs(self, teacher_task: Any, outputs: Any) -> Tensor:
        """The distillation targets in a teacher's raw outputs for N images, (N, ...); they are stored in float16."""

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """The outputs of several teachers combined."""

    def projection(self, network: Any, output_shape: Sequence[int]) -> nn.Module:
        """A module from the student's first output to the shape of the teacher's.

        Raises:
            ValueError: if outputs of that shape do not fit this student.
        """

    def loss(
        self, outputs: StudentOutputs, teacher: Tensor, world: World = SINGLE_PROCESS, targets: Targets = None
    ) -> Tensor:
        """The distillation loss; its mean over the processes is the loss of the whole batch.

        Args:
            outputs: of the student.
            teacher: (N, ...), combined.
            world: the processes that share the batch.
            targets: of the task's own loss, where `needs_targets`; None for a dummy image.
        """


def build_objective(task: Task[Any], *, class_loss: ClassLoss, temperature: float) -> DistillObjective:
    """The objective for a student's task; loss and temperature apply to classes.

    Raises:
        ValueError: if the task cannot be distilled.
    """
    if task.name not in _BUILDERS:
        raise ValueError(f"--task: {task.name} cannot be distilled; expected one of {', '.join(_BUILDERS)}")
    return _BUILDERS[task.name](task, class_loss, temperature)


class EmbeddingObjective:
    """Embeddings, by their squared distance."""

    dummy_truth, needs_targets = None, False

    def teacher_outputs(self, teacher_task: Any, outputs: Any) -> Tensor:
        """Embeddings (N, D)."""
        embeddings: Tensor = outputs.embeddings
        return embeddings

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """Concatenated and scaled, so that the cosine of two images is the mean of the teachers' cosines."""
        concatenated: Tensor = torch.cat(list(outputs), 1) / len(outputs) ** 0.5
        return concatenated

    def projection(self, network: Any, output_shape: Sequence[int]) -> nn.Module:
        """A rotation into the teacher's space."""
        return build_rotation(network.head.embedding_dim, output_shape[0])

    def loss(
        self, outputs: StudentOutputs, teacher: Tensor, world: World = SINGLE_PROCESS, targets: Targets = None
    ) -> Tensor:
        """The squared distance."""
        return embedding_loss(outputs.projected, teacher)


class ClassObjective:
    """Class logits with one softmax, or with one for each partitioning of the Earth."""

    dummy_truth, needs_targets = None, False

    def __init__(self, sizes: Sequence[int], class_loss: ClassLoss, temperature: float) -> None:
        """Args: sizes: number of classes of each softmax; class_loss, temperature: see `DistillConfig`."""
        self._sizes, self._class_loss, self._temperature = list(sizes), class_loss, temperature

    def teacher_outputs(self, teacher_task: Any, outputs: Any) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = outputs.logits
        return logits

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logarithm of the mean probability."""
        parts = zip(*(torch.split(logits, self._sizes, 1) for logits in outputs), strict=True)
        return torch.cat([_log_mean([logits.log_softmax(1) for logits in part]) for part in parts], 1)

    def projection(self, network: Any, output_shape: Sequence[int]) -> nn.Module:
        """The identity, once the shapes are checked."""
        return _identity((sum(self._sizes),), output_shape, "logits")

    def loss(
        self, outputs: StudentOutputs, teacher: Tensor, world: World = SINGLE_PROCESS, targets: Targets = None
    ) -> Tensor:
        """The mean over the softmaxes."""
        pairs = zip(torch.split(outputs.projected, self._sizes, 1), torch.split(teacher, self._sizes, 1), strict=True)
        return torch.stack([self._loss(*pair, world) for pair in pairs]).mean()

    def _loss(self, student: Tensor, teacher: Tensor, world: World) -> Tensor:
        if self._class_loss == "dist":
            student, teacher = world.all_rows(student), world.all_rows(teacher)  # it compares the images of a batch
            return dist_loss(student, teacher, temperature=self._temperature)
        if self._class_loss == "dkd":  # with the teacher's prediction as target class, so that no labels are needed
            return dkd_loss(student, teacher, teacher.argmax(1), temperature=self._temperature)
        return kd_loss(student, teacher, temperature=self._temperature)


class AttributeObjective:
    """Binary attributes, by cross-entropy with the teacher's probabilities."""

    dummy_truth, needs_targets = None, False

    def __init__(self, task: Task[Any]) -> None:
        """Args: task: the student's; its loss takes soft targets."""
        self._task = task

    def teacher_outputs(self, teacher_task: Any, outputs: Any) -> Tensor:
        """log(p / (1 - p)) (N, K) of the teacher's probabilities, which do not depend on its loss weights."""
        logits: Tensor = teacher_task.probabilities(outputs).logit(PROBABILITY_EPS)
        return logits

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logit of the mean probability."""
        return torch.stack([logits.sigmoid() for logits in outputs]).mean(0).logit(PROBABILITY_EPS)

    def projection(self, network: Any, output_shape: Sequence[int]) -> nn.Module:
        """The identity, once the shapes are checked."""
        return _identity((len(self._task.metadata["attribute_names"]),), output_shape, "attributes")

    def loss(
        self, outputs: StudentOutputs, teacher: Tensor, world: World = SINGLE_PROCESS, targets: Targets = None
    ) -> Tensor:
        """Binary cross-entropy with the teacher's probabilities (Howard et al. 2017, section 4.5)."""
        return self._task.loss(outputs.own, AttributeTargets(teacher.sigmoid()), world)["total"]


class BoxObjective:
    """Class logits and box deltas of SSD, anchor by anchor."""

    dummy_truth = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (1, 1))
    needs_targets = False

    def __init__(self, task: Task[Any]) -> None:
        """Args: task: of the student."""
        _require_ssd(task, "student")
        self._task = task

    def teacher_outputs(self, teacher_task: Any, outputs: Any) -> Tensor:
        """Class logits, background first, and box deltas side by side, (N, A, K + 5)."""
        _require_ssd(teacher_task, "teacher")
        return torch.cat([_with_background(outputs.class_logits, teacher_task), outputs.box_deltas], 2)

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logarithm of the mean probability, and the mean box deltas."""
        logits = _log_mean([part[..., :-4].log_softmax(-1) for part in outputs])
        return torch.cat([logits, torch.stack([part[..., -4:] for part in outputs]).mean(0)], -1)

    def projection(self, network: Any, output_shape: Sequence[int]) -> nn.Module:
        """The identity; `loss` checks the shapes."""
        return nn.Identity()

    def loss(
        self, outputs: StudentOutputs, teacher: Tensor, world: World = SINGLE_PROCESS, targets: Targets = None
    ) -> Tensor:
        """The sum of the class and the box loss."""
        logits, deltas = _with_background(outputs.own.class_logits, self._task), outputs.own.box_deltas
        found, expected = (
            f"{anchors:,} anchors and {outputs - 1} classes"
            for anchors, outputs in ((teacher.shape[1], teacher.shape[2] - 4), logits.shape[1:])
        )
        if found != expected:
            raise ValueError(
                f"the teacher has {found}, the student {expected}; expected the same: give the student the teacher's "
                "--data.input_size, --ssd.neck and --ssd.anchors"
            )
        classes, boxes = box_loss(logits, deltas, teacher, world)
        return classes + boxes


class PixelObjective:
    """Class logits at each pixel of a map, at the finer one of student and teacher.

    Void pixels do not count: those without a class in the truth, and the border around an image that got smaller.
    """

    dummy_truth = Mask(np.zeros((1, 1), np.uint8))
    needs_targets = True

    def __init__(self, task: Task[Any], class_loss: ClassLoss, temperature: float) -> None:
        """Args: task: the student's; class_loss, temperature: see `DistillConfig`."""
        if class_loss != "kd":
            raise ValueError(f"class_loss: expected kd in tasks.segmentation, got {class_loss}")
        self._task, self._temperature = task, temperature

    def teacher_outputs(self, teacher_task: Any, outputs: Any) -> Tensor:
        """Logits (N, K, h, w) at the stride of the teacher's head."""
        logits: Tensor = outputs.logits
        return logits

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logarithm of the mean probability, at the finest map of all."""
        size = _finest(outputs)
        return _log_mean([resize_map(logits, size).log_softmax(1) for logits in outputs])

    def projection(self, network: Any, output_shape: Sequence[int]) -> nn.Module:
        """The identity, once the number of classes is checked."""
        return _identity((len(self._task.metadata["class_names"]),), output_shape[:1], "classes")

    def loss(
        self,
        outputs: StudentOutputs,
        teacher: Tensor,
        world: World = SINGLE_PROCESS,
        targets: SegmentationTargets | None = None,
    ) -> Tensor:
        """KD of the pixels; with an auxiliary head the weighted sum of both, as in the task's own loss."""

        def kd(logits: Tensor) -> Tensor:
            size = _finest([logits, teacher])
            weights = logits.new_ones(len(logits), *size) if targets is None else _counted(targets, size)
            maps = resize_map(logits, size), resize_map(teacher, size)
            return pixel_loss(*maps, weights, world, temperature=self._temperature)

        pixels = kd(outputs.projected)
        if not isinstance(outputs.own, AuxiliaryOutputs):
            return pixels
        auxiliary_weight: float = self._task.config.auxiliary_weight
        return pixels + auxiliary_weight * kd(outputs.own.auxiliary)


_Builder = Callable[[Task[Any], ClassLoss, float], DistillObjective]
_BUILDERS: dict[str, _Builder] = {
    "attributes": lambda task, *_: AttributeObjective(task),
    "classification": lambda task, *kd: ClassObjective([len(task.metadata["class_names"])], *kd),
    "detection": lambda task, *_: BoxObjective(task),
    "embedding": lambda *_: EmbeddingObjective(),
    "geolocation": lambda task, *kd: ClassObjective([len(p["cell"]) for p in task.metadata["partitionings"]], *kd),
    "segmentation": PixelObjective,
}


def _require_ssd(task: Task[Any], role: str) -> None:
    model = task.config.model
    if model != "ssd":
        raise ValueError(
            f"model: expected ssd, but the {role} is {model}, whose regions differ from network to network"
        )


def _with_background(logits: Tensor, task: Task[Any]) -> Tensor:
    """Logits of a softmax over background and classes, (N, A, K + 1).

    Those of sigmoid scores, (N, A, K), get a background of 0: softmax then gives a class e^z / (1 + sum of e^z), which
    is its sigmoid where all others are negligible.
    """
    return functional.pad(logits, (1, 0)) if task.config.ssd.scores == "sigmoid" else logits


def _finest(maps: Sequence[Tensor]) -> tuple[int, int]:
    return max(logits.shape[2] for logits in maps), max(logits.shape[3] for logits in maps)


def _counted(targets: SegmentationTargets, size: tuple[int, int]) -> Tensor:
    """The fraction of each cell of a map (N, h, w) that is not void."""
    is_counted = (targets.class_ids != VOID).float()
    return functional.adaptive_avg_pool2d(is_counted, size)


def _log_mean(log_probabilities: Sequence[Tensor]) -> Tensor:
    mean: Tensor = torch.stack(list(log_probabilities)).logsumexp(0) - math.log(len(log_probabilities))
    return mean


def _identity(expected: tuple[int, ...], found: Sequence[int], unit: str) -> nn.Module:
    if tuple(found) != expected:
        raise ValueError(f"the teacher has {found[0]} {unit}, the student {expected[0]}; expected the same number")
    return nn.Identity()
