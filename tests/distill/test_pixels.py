"""Pixels: the loss by hand and by torch, void, maps and views of other sizes, photos without masks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import distill.commands
from datasets.loader import Key, build_batch
from datasets.types import VOID
from distill.config import DistillConfig
from distill.ensemble import TeacherEnsemble
from distill.loss import pixel_loss
from distill.objectives import PixelObjective, build_objective
from distill.student import StudentOutputs
from distill.task import Distillation
from distill.teacher import build_teacher
from distill.views import UnlabelledImages
from tasks.common.config import LoopConfig
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.segmentation.config import SegmentationConfig
from tasks.segmentation.loss import SegmentationTargets
from tasks.segmentation.model import AuxiliaryOutputs, SegmentationOutputs
from tasks.segmentation.task import SegmentationTask
from tests.distill.test_loss import Half
from tests.tasks.conftest import build_config

T = 2.5
SIZE_HW = 4, 6  # of the teacher's map


@pytest.fixture
def teacher() -> Tensor:
    return 3 * torch.randn(2, 3, *SIZE_HW)


@pytest.fixture
def class_ids() -> Tensor:
    """Masks of the map's size, with void."""
    ids = torch.randint(0, 3, (2, *SIZE_HW), dtype=torch.uint8)
    ids[0, :2] = ids[1, 1, 3] = VOID
    return ids


def objective_of(temperature: float, auxiliary_weight: float = 0) -> PixelObjective:
    config = dataclasses.replace(build_config(SegmentationConfig), auxiliary_weight=auxiliary_weight)
    return PixelObjective(SegmentationTask(config, {"class_names": list("abc")}), "kd", temperature)


def loss_of(
    logits: Tensor,
    teacher: Tensor,
    class_ids: Tensor | None,
    *,
    temperature: float = T,
    auxiliary: tuple[float, Tensor] | None = None,
    world: World = SINGLE_PROCESS,
) -> Tensor:
    own = SegmentationOutputs(logits) if auxiliary is None else AuxiliaryOutputs(logits, auxiliary[1])
    targets = None if class_ids is None else SegmentationTargets(class_ids)
    objective = objective_of(temperature, 0 if auxiliary is None else auxiliary[0])
    return objective.loss(StudentOutputs(own, logits, torch.zeros(0)), teacher, world, targets)


def torchs_loss(logits: Tensor, teacher: Tensor, class_ids: Tensor) -> Tensor:
    """Torch's mean divergence of the pixels that are not void, at the teacher's map."""
    finer = functional.interpolate(logits, SIZE_HW, mode="bilinear", align_corners=False)
    q, p = (maps.movedim(1, -1)[class_ids != VOID] / T for maps in (finer, teacher))
    return T**2 * functional.kl_div(q.log_softmax(1), p.softmax(1), reduction="batchmean")


def test_loss_of_a_worked_example() -> None:
    """Two by two pixels, two classes: the second counts half, the last not at all."""
    teacher = torch.tensor([[[[0.5, 0.75], [0.2, 0.9]], [[0.5, 0.25], [0.8, 0.1]]]]).log()
    student = torch.tensor([[[[0.25, 0.5], [0.2, 0.1]], [[0.75, 0.5], [0.8, 0.9]]]]).log()
    weights = torch.tensor([[[1.0, 0.5], [1.0, 0.0]]])
    first, second = 0.5 * np.log(0.5 / 0.25 * 0.5 / 0.75), 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    loss = pixel_loss(student, teacher, weights, temperature=1)
    assert loss.item() == pytest.approx((first + second / 2) / 2.5, rel=1e-5)


@pytest.mark.parametrize("size_hw", [SIZE_HW, (2, 3)])
@pytest.mark.parametrize("times", [1, 8])
def test_loss_is_torchs_at_the_finer_map(
    size_hw: tuple[int, int], times: int, teacher: Tensor, class_ids: Tensor
) -> None:
    """Whatever the size of the masks is."""
    student, coarse = 3 * torch.randn(2, 3, *size_hw), torch.randn(2, 3, 2, 3)
    masks = class_ids.repeat_interleave(times, 1).repeat_interleave(times, 2)
    expected = torchs_loss(student, teacher, class_ids)
    torch.testing.assert_close(loss_of(student, teacher, masks), expected)
    with_auxiliary = loss_of(student, teacher, masks, auxiliary=(0.4, coarse))
    torch.testing.assert_close(with_auxiliary, expected + 0.4 * torchs_loss(coarse, teacher, class_ids))


def test_a_cell_counts_by_its_part_that_is_not_void(teacher: Tensor) -> None:
    """Cells of two by two pixels of the mask: those of the first row have one void pixel, the others none."""
    student = torch.randn(2, 3, *SIZE_HW)
    masks = torch.zeros(2, 2 * SIZE_HW[0], 2 * SIZE_HW[1], dtype=torch.uint8)
    masks[:, 0, ::2] = VOID
    weights = torch.ones(2, *SIZE_HW)
    weights[:, 0] = 0.75
    expected = pixel_loss(student, teacher, weights, temperature=T)
    torch.testing.assert_close(loss_of(student, teacher, masks), expected)


@pytest.mark.parametrize("temperature", [1, 4])
def test_the_teacher_itself_has_no_gradient(temperature: float, teacher: Tensor, class_ids: Tensor) -> None:
    student = teacher.clone().requires_grad_()
    loss_of(student, teacher, class_ids, temperature=temperature).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-7


def test_void_has_no_gradient_and_a_mask_of_void_no_loss(teacher: Tensor, class_ids: Tensor) -> None:
    student = torch.randn(2, 3, *SIZE_HW, requires_grad=True)
    loss_of(student, teacher, class_ids).backward()
    assert student.grad is not None
    assert torch.equal(student.grad.abs().sum(1) == 0, class_ids == VOID)
    assert loss_of(student, teacher, torch.full_like(class_ids, VOID)).item() == 0


def test_two_processes_mean_loss_is_the_whole_batchs(teacher: Tensor, class_ids: Tensor) -> None:
    student = torch.randn(2, 3, *SIZE_HW)  # the halves have different numbers of pixels
    world = Half((class_ids != VOID).sum().item())
    parts = zip(*(whole.chunk(2) for whole in (student, teacher, class_ids)), strict=True)
    halves = [loss_of(*part, world=world) for part in parts]
    torch.testing.assert_close(sum(halves) / 2, loss_of(student, teacher, class_ids))


def test_two_teachers_probabilities_are_averaged_at_the_finer_map(teacher: Tensor) -> None:
    coarse = torch.randn(2, 3, 2, 3)
    finer = functional.interpolate(coarse, SIZE_HW, mode="bilinear", align_corners=False)
    combined = objective_of(T).ensemble([coarse, teacher])
    torch.testing.assert_close(combined.exp(), (finer.softmax(1) + teacher.softmax(1)) / 2)


def test_a_teacher_of_another_head_stride_width_and_size_and_photos_without_masks(
    student: Callable[..., Any], tmp_path: Path
) -> None:
    task = student(
        "segmentation", backbone={"name": "mobilenet_0.25"}, augment={"min_scale": 0.25, "jitter_strength": 0}
    )
    other = student("segmentation", backbone={"name": "mobilenet_0.5"}, data={"input_size": 96})
    other = SegmentationTask(dataclasses.replace(other.config, head="lraspp", output_stride=8), other.metadata)
    teacher = build_teacher("other", other, other.build_model().eval())
    objective = build_objective(task, class_loss="kd", temperature=1)
    ensemble = TeacherEnsemble([teacher], objective, loop=LoopConfig(), hint_stride=8)
    assert ensemble.output_shape == (len(task.class_names), 24, 24)
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path in paths:
        cv2.imwrite(str(path), np.full((40, 60, 3), 255, np.uint8))
    photos: UnlabelledImages[Any] = UnlabelledImages(paths, objective.dummy_truth)
    distillation = Distillation(task, ensemble, objective, photos, alpha=0, num_views=2, hint_stride=8)
    distillation.dry_run()
    examples = distillation.training_set().__getitems__([Key(0, row) for row in range(4)])
    batch = build_batch(examples, distillation.collate())
    assert batch.images.shape[2:] == (64, 64)
    assert batch.targets.teacher_images.shape[2:] == (96, 96)
    is_void = batch.targets.own.class_ids == VOID
    assert torch.equal(is_void, (batch.targets.teacher_images < 255).all(1)), "the border around the white photos"
    assert is_void.any()
    assert not is_void.flatten(1).any(1).all(), "nothing is around a larger one"
    model = distillation.build_model()
    losses = distillation.loss(model(batch.images), batch.targets)
    torch.testing.assert_close(losses["total"], losses["teacher"] + losses["hint"])
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_class_weights_need_the_counts_of_the_students_data(
    student: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A teacher without class weights has none."""
    task = student("segmentation")
    config = dataclasses.replace(task.config, class_weight_exponent=0.5)
    monkeypatch.setattr(distill.commands, "identify_run", lambda *_: ("segmentation", task.metadata))
    built = distill.commands._build_student("segmentation", config, DistillConfig(teacher=(str(tmp_path),)))
    assert built.metadata["num_pixels"] == SegmentationTask.from_data(config).metadata["num_pixels"]


def test_what_cannot_be_distilled_is_named(student: Callable[..., Any]) -> None:
    task = student("segmentation", backbone={"name": "mobilenet_0.25"})
    with pytest.raises(ValueError, match=r"^class_loss: expected kd in tasks\.segmentation, got dkd$"):
        build_objective(task, class_loss="dkd", temperature=1)
    objective = build_objective(task, class_loss="kd", temperature=1)
    with pytest.raises(ValueError, match="the teacher has 3 classes, the student 6; expected the same number"):
        objective.projection(None, (3, 16, 16))

    finer = SegmentationTask(dataclasses.replace(task.config, output_stride=8), task.metadata)
    coarse_teacher, fine_teacher = (build_teacher("other", each, each.build_model().eval()) for each in (task, finer))
    message = r"^hint_stride: {} has no feature map at stride 16; expected one of \[2, 4, 8\]$"
    with pytest.raises(ValueError, match=message.format("other")):
        TeacherEnsemble([fine_teacher], objective, loop=LoopConfig(), hint_stride=16)
    ensemble = TeacherEnsemble([coarse_teacher], objective, loop=LoopConfig(), hint_stride=16)
    distillation = Distillation(
        finer, ensemble, objective, task.source("train"), alpha=0, num_views=None, hint_stride=16
    )
    with pytest.raises(ValueError, match=message.format("the student")):
        distillation.dry_run()
