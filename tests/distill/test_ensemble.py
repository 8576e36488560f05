"""Teacher outputs of a batch: ensembles, float16, the cache; and the student's losses."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.loader import Key, build_batch
from datasets.types import Attributes, Example
from distill.ensemble import TeacherEnsemble
from distill.objectives import build_objective
from distill.student import Student, StudentOutputs, build_rotation
from distill.task import Distillation
from distill.teacher import Teacher
from distill.views import DistillTargets, PairedView, UnlabelledImages, distill_targets
from tasks.common.config import LoopConfig
from tasks.common.model.logits import Logits
from tasks.embedding.model import EmbeddingOutputs
from tests.distill.conftest import SMALL


class MeanColour(nn.Module):
    """Embeds an image by its mean colour; counts the images."""

    def __init__(self, sign: int = 1) -> None:
        super().__init__()
        self.register_buffer("sign", torch.tensor(float(sign)))
        self.num_forward = 0

    def forward(self, images: Tensor) -> EmbeddingOutputs:
        self.num_forward += len(images)
        means = nn.functional.normalize(self.get_buffer("sign") * (images.float().mean((2, 3)) - 100))
        return EmbeddingOutputs(means, means.new_zeros(0, 3))


@pytest.fixture
def build_ensemble(student: Callable[..., Any]) -> Callable[..., TeacherEnsemble]:
    task = student("embedding", data={"input_size": 32})

    def build(*models: nn.Module) -> TeacherEnsemble:
        teachers = [Teacher("mean colour", task, model, digest="d") for model in models]
        return TeacherEnsemble(teachers, build_objective(task, class_loss="kd", temperature=1), loop=LoopConfig())

    return build


def targets_of(pixels: np.ndarray, rows: Sequence[int]) -> DistillTargets:
    """The targets of views with these pixels, of images in these rows."""
    views = [
        PairedView(image, None, str(row), row, teacher_image=image, view=row % 2)
        for image, row in zip(pixels, rows, strict=True)
    ]
    return distill_targets(views, own=None)


def random_pixels(rng: np.random.Generator, num_images: int) -> np.ndarray:
    return rng.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)


def test_a_second_ensemble_reads_the_first_ones_cache(
    build_ensemble: Callable[..., TeacherEnsemble], rng: np.random.Generator, tmp_path: Any
) -> None:
    source = UnlabelledImages([tmp_path / f"{row}.jpg" for row in range(9)], None)
    pixels = random_pixels(rng, 9)
    targets = targets_of(pixels, range(9))
    uncached = build_ensemble(MeanColour())(targets).outputs
    for num_forward in (9, 0):
        model = MeanColour()
        ensemble = build_ensemble(model)
        model.num_forward = 0
        ensemble.enable_cache(source, 2, seed=0)
        first, again = ensemble(targets_of(pixels[:5], range(5))).outputs, ensemble(targets).outputs
        assert model.num_forward == ensemble.num_forward == num_forward
        assert ensemble.time_saved_s > 0, "the second reads the first one's timing"
        ensemble.close()
        assert torch.equal(again, uncached)
        assert torch.equal(first, uncached[:5])
    assert ensemble.num_cached == 14

    mixed = np.concatenate([pixels[:4], 255 - pixels[4:]])
    assert torch.equal(ensemble(targets_of(mixed, range(9))).outputs[:4], uncached[:4]), "hits and misses in order"
    assert ensemble.num_forward == 5, "other pixels are misses"


def test_outputs_are_the_teachers_in_float16(
    build_ensemble: Callable[..., TeacherEnsemble], rng: np.random.Generator
) -> None:
    targets = targets_of(random_pixels(rng, 4), range(4))
    expected = MeanColour()(targets.teacher_images).embeddings.half().float()
    torch.testing.assert_close(build_ensemble(MeanColour())(targets).outputs, expected, atol=0, rtol=0)


def test_two_teachers_cosines_are_averaged(
    build_ensemble: Callable[..., TeacherEnsemble], rng: np.random.Generator
) -> None:
    targets = targets_of(random_pixels(rng, 6), range(6))
    models = MeanColour(), nn.Sequential(MeanColour(-1))
    both = build_ensemble(*models)(targets).outputs
    single = [build_ensemble(model)(targets).outputs for model in models]
    cosines = [embeddings @ embeddings.T for embeddings in single]
    torch.testing.assert_close(both @ both.T, sum(cosines) / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(6), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("task", ["classification", "attributes", "geolocation"])
def test_two_teachers_probabilities_are_averaged(task: str, student: Callable[..., Any]) -> None:
    student_task = student(task)
    objective = build_objective(student_task, class_loss="kd", temperature=1)
    outputs = list(torch.randn(2, 4, student_task.build_model().head.out_features))
    combined = objective.ensemble(outputs)
    if task == "attributes":
        torch.testing.assert_close(combined.sigmoid(), (outputs[0].sigmoid() + outputs[1].sigmoid()) / 2)
        return
    is_geo = task == "geolocation"
    sizes = [len(p) for p in student_task.partitionings] if is_geo else [len(student_task.class_names)]
    parts = zip(combined.split(sizes, 1), *(logits.split(sizes, 1) for logits in outputs), strict=True)
    for mean, a, b in parts:
        torch.testing.assert_close(mean.exp(), (a.softmax(1) + b.softmax(1)) / 2)


def test_attributes_are_distilled_from_the_teachers_probabilities(student: Callable[..., Any]) -> None:
    """Whatever loss weights either has, the loss is minimal where both predict the same."""
    teacher_task = student("attributes")  # pos_weight_exponent 0.5
    objective = build_objective(teacher_task, class_loss="kd", temperature=1)
    outputs = Logits(torch.randn(3, len(teacher_task.attribute_names)))
    targets = objective.teacher_outputs(teacher_task, outputs)
    decoded = np.stack([predicted.values for predicted in teacher_task.decode(outputs)])
    np.testing.assert_allclose(targets.sigmoid().numpy(), decoded, atol=1e-6)

    logits = outputs.logits.clone().requires_grad_()
    objective.loss(StudentOutputs(Logits(logits), logits, torch.zeros(0)), targets).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6
    pixels = np.zeros((1, 1, 3), np.uint8)
    truth = [Example(pixels, Attributes(values), "") for values in decoded.astype(np.float32)]
    expected = teacher_task.loss(outputs, teacher_task.collate()(truth))["total"]
    torch.testing.assert_close(objective.loss(StudentOutputs(outputs, outputs[0], torch.zeros(0)), targets), expected)


def test_rotation_preserves_cosines_during_training() -> None:
    rotation = build_rotation(8, 20)
    optimizer = torch.optim.SGD(rotation.parameters(), lr=1.0)
    points, target = nn.functional.normalize(torch.randn(30, 8)), nn.functional.normalize(torch.randn(30, 20))
    losses = []
    for _ in range(20):
        loss = (rotation(points) - target).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        rotated = rotation(points)
        torch.testing.assert_close(rotated @ rotated.T, points @ points.T, atol=1e-5, rtol=1e-4)
    assert losses[-1] < losses[0] - 0.05
    assert isinstance(build_rotation(8, 8), nn.Identity)


def test_a_teacher_with_nan_outputs_is_reported(
    build_ensemble: Callable[..., TeacherEnsemble], rng: np.random.Generator, tmp_path: Path
) -> None:
    model = MeanColour()
    ensemble = build_ensemble(model)
    targets = targets_of(random_pixels(rng, 1), [0])
    model.sign = torch.tensor(float("nan"))
    assert not ensemble(targets).outputs.isfinite().any(), "without a cache the loop stops at the loss"
    ensemble.enable_cache(UnlabelledImages([tmp_path / "0.jpg"], None), 2, seed=0)
    for _ in range(2):
        with pytest.raises(ValueError, match="mean colour: its outputs are not finite"):
            ensemble(targets)
    assert ensemble.num_cached == 0, "nothing was cached"


@pytest.mark.parametrize("task", SMALL)
def test_a_students_hint_does_not_change_its_outputs(task: str, student: Callable[..., Any]) -> None:
    network = student(task, backbone={"name": "mobilenet_0.25"}).build_model().eval()
    wrapped = Student(network, nn.Identity(), (16, 7)).eval()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        outputs, own = wrapped(images), network(images)
    assert outputs.hint.shape == (2, 7, 6, 6)
    torch.testing.assert_close(outputs.own, own)
    torch.testing.assert_close(outputs.projected, own[0])


@pytest.mark.parametrize(
    ("task", "alpha"),
    [("attributes", 0.25), ("detection", 0.25), ("detection", 0), ("embedding", 0), ("segmentation", 0.25)],
)
def test_a_distillation_loss_needs_only_the_batchs_targets(
    task: str, alpha: float, student: Callable[..., Any]
) -> None:
    student_task = student(task, backbone={"name": "mobilenet_0.25"})
    network = student_task.build_model().eval()
    teacher = Teacher("equal", student_task, network, digest="d")
    objective = build_objective(student_task, class_loss="kd", temperature=1)
    ensemble = TeacherEnsemble([teacher], objective, loop=LoopConfig(), hint_stride=16)
    images = student_task.source("train")
    distillation = Distillation(student_task, ensemble, objective, images, alpha=alpha, num_views=None, hint_stride=16)
    sent, plain = (pickle.dumps((each.training_set(), each.collate())) for each in (distillation, student_task))
    assert len(sent) < len(plain) + 1024, "no teacher and no task are sent to loader processes"
    examples = distillation.training_set().__getitems__([Key(0, row) for row in range(4)])
    batch = build_batch(examples, distillation.collate())
    assert batch.truth == []
    assert torch.equal(batch.targets.teacher_images, batch.images), "both have the same input size"
    assert (batch.targets.own is not None) == bool(alpha)

    model = distillation.build_model()
    losses = distillation.loss(model(batch.images), batch.targets)
    expected = (1 - alpha) * losses["teacher"] + losses["hint"]
    if alpha:
        own = student_task.collate()(examples)
        outputs = model.eval()(batch.images)
        losses = distillation.loss(outputs, batch.targets)
        torch.testing.assert_close(losses["own"], student_task.loss(outputs.own, own)["total"])
        expected = (1 - alpha) * losses["teacher"] + alpha * losses["own"] + losses["hint"]
    torch.testing.assert_close(losses["total"], expected)
    losses["total"].backward()
    assert all(p.grad is None for p in network.parameters()), "the teacher gets no gradient"
    assert all(p.grad is not None for p in model.adapter.parameters())
