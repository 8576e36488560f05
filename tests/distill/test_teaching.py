"""What teachers say of a batch: agreement of several, halves, and memory; and what students do with it."""

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
from distill.student import Student, StudentOutputs, build_rotation
from distill.subjects import build_subject
from distill.task import Distillation
from distill.teachers import Teacher
from distill.teaching import Teaching
from distill.views import DistillTargets, PairedView, UnlabelledImages, distill_targets
from tasks.common.config import LoopConfig
from tasks.common.model.logits import Logits
from tasks.embedding.model import EmbeddingOutputs
from tasks.registry import TASKS


class Means(nn.Module):
    """Embeds an image by the means of its colours; counts what it is asked."""

    def __init__(self, sign: int = 1) -> None:
        super().__init__()
        self.register_buffer("sign", torch.tensor(float(sign)))
        self.num_forward = 0

    def forward(self, images: Tensor) -> EmbeddingOutputs:
        self.num_forward += len(images)
        means = nn.functional.normalize(self.get_buffer("sign") * (images.float().mean((2, 3)) - 100))
        return EmbeddingOutputs(means, means.new_zeros(0, 3))


@pytest.fixture
def teaching(student: Callable[..., Any]) -> Callable[..., Teaching]:
    task = student("embedding", data={"input_size": 32})

    def build(*models: nn.Module) -> Teaching:
        teachers = [Teacher("means", task, model, digest="d") for model in models]
        return Teaching(teachers, build_subject(task, class_loss="kd", temperature=1), loop=LoopConfig())

    return build


def questions_of(pixels: np.ndarray, rows: Sequence[int]) -> DistillTargets:
    """The targets of views with these pixels, of images in these rows."""
    views = [
        PairedView(image, None, str(row), row, teacher_image=image, view=row % 2)
        for image, row in zip(pixels, rows, strict=True)
    ]
    return distill_targets(views, own=None)


def some_pixels(rng: np.random.Generator, number: int) -> np.ndarray:
    return rng.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)


def test_remembers_for_the_next_one(teaching: Callable[..., Teaching], rng: np.random.Generator, tmp_path: Any) -> None:
    source = UnlabelledImages([tmp_path / f"{row}.jpg" for row in range(9)], None)
    pixels = some_pixels(rng, 9)
    questions = questions_of(pixels, range(9))
    plain = teaching(Means())(questions).answer
    for asked in (9, 0):
        model = Means()
        one = teaching(model)
        model.num_forward = 0
        one.remember(source, 2, seed=0)
        first, again = one(questions_of(pixels[:5], range(5))).answer, one(questions).answer
        assert model.num_forward == one.num_forward == asked
        assert one.saved_s > 0, "known for the second one from the first"
        one.close()
        assert torch.equal(again, plain), "the same, whoever says it"
        assert torch.equal(first, plain[:5])
    assert one.num_cached == 14

    mixed = np.concatenate([pixels[:4], 255 - pixels[4:]])
    assert torch.equal(one(questions_of(mixed, range(9))).answer[:4], plain[:4]), "known and new ones in their places"
    assert one.num_forward == 5, "other pixels are another question"


def test_answers_are_what_the_teacher_says_in_halves(
    teaching: Callable[..., Teaching], rng: np.random.Generator
) -> None:
    questions = questions_of(some_pixels(rng, 4), range(4))
    expected = Means()(questions.teacher_images).embeddings.half().float()
    torch.testing.assert_close(teaching(Means())(questions).answer, expected, atol=0, rtol=0)


def test_two_teachers_cosines_are_averaged(teaching: Callable[..., Teaching], rng: np.random.Generator) -> None:
    questions = questions_of(some_pixels(rng, 6), range(6))
    one, other = Means(), nn.Sequential(Means(-1))
    both = teaching(one, other)(questions).answer
    single = [teaching(model)(questions).answer for model in (one, other)]
    cosines = [answers @ answers.T for answers in single]
    torch.testing.assert_close(both @ both.T, sum(cosines) / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(6), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("task", ["classification", "attributes", "geolocation"])
def test_two_teachers_probabilities_are_averaged(task: str, student: Callable[..., Any]) -> None:
    one = student(task)
    subject = build_subject(one, class_loss="kd", temperature=1)
    answers = list(torch.randn(2, 4, one.build_model().head.out_features))
    agreed = subject.agree(answers)
    if task == "attributes":
        torch.testing.assert_close(agreed.sigmoid(), (answers[0].sigmoid() + answers[1].sigmoid()) / 2)
        return
    sizes = [len(p) for p in one.partitionings] if task == "geolocation" else [len(one.class_names)]
    parts = zip(agreed.split(sizes, 1), *(answer.split(sizes, 1) for answer in answers), strict=True)
    for mean, a, b in parts:
        torch.testing.assert_close(mean.exp(), (a.softmax(1) + b.softmax(1)) / 2)


def test_attributes_are_taught_by_the_teachers_probabilities(student: Callable[..., Any]) -> None:
    """Whatever weights either side learns with: the loss is at its least where both predict the same."""
    teacher_task = student("attributes")  # balance 0.5
    subject = build_subject(teacher_task, class_loss="kd", temperature=1)
    outputs = Logits(torch.randn(3, len(teacher_task.attribute_names)))
    answer = subject.answer(teacher_task, outputs)
    decoded = np.stack([predicted.values for predicted in teacher_task.decode(outputs)])
    np.testing.assert_allclose(answer.sigmoid().numpy(), decoded, atol=1e-6)

    logits = outputs.logits.clone().requires_grad_()
    subject.loss(StudentOutputs(Logits(logits), logits, torch.zeros(0)), answer).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6
    nothing = np.zeros((1, 1, 3), np.uint8)
    truth = [Example(nothing, Attributes(values), "") for values in decoded.astype(np.float32)]
    expected = teacher_task.loss(outputs, teacher_task.collate()(truth))["total"]
    torch.testing.assert_close(subject.loss(StudentOutputs(outputs, outputs[0], torch.zeros(0)), answer), expected)


def test_rotation_keeps_cosines_while_it_learns() -> None:
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
        turned = rotation(points)
        torch.testing.assert_close(turned @ turned.T, points @ points.T, atol=1e-5, rtol=1e-4)
    assert losses[-1] < losses[0] - 0.05
    assert isinstance(build_rotation(8, 8), nn.Identity)


def test_a_teacher_that_breaks_down_is_named(
    teaching: Callable[..., Teaching], rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Means()
    one = teaching(model)
    questions = questions_of(some_pixels(rng, 1), [0])
    model.sign = torch.tensor(float("nan"))
    assert not one(questions).answer.isfinite().any(), "what is not kept goes into the loss, at which the loop stops"
    one.remember(UnlabelledImages([tmp_path / "0.jpg"], None), 2, seed=0)
    for _ in range(2):
        with pytest.raises(ValueError, match="means: its answers are not finite"):
            one(questions)
    assert one.num_cached == 0, "nothing of it is kept"


@pytest.mark.parametrize("task", TASKS)
def test_a_students_hint_leaves_its_outputs_as_they_are(task: str, student: Callable[..., Any]) -> None:
    network = student(task, backbone={"name": "mobilenet_0.25"}).build_model().eval()
    learning = Student(network, nn.Identity(), (16, 7)).eval()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        outputs, own = learning(images), network(images)
    assert outputs.hint.shape == (2, 7, 6, 6)
    torch.testing.assert_close(outputs.own, own)
    torch.testing.assert_close(outputs.compared, own[0])


@pytest.mark.parametrize(
    ("task", "alpha"), [("attributes", 0.25), ("detection", 0.25), ("detection", 0), ("embedding", 0)]
)
def test_a_distillation_takes_all_from_a_batchs_targets(task: str, alpha: float, student: Callable[..., Any]) -> None:
    one = student(task, backbone={"name": "mobilenet_0.25"})
    network = one.build_model().eval()
    teacher = Teacher("the same", one, network, digest="d")
    subject = build_subject(one, class_loss="kd", temperature=1)
    teaching = Teaching([teacher], subject, loop=LoopConfig(), hint_stride=16)
    distillation = Distillation(
        one, teaching, subject, one.source("train"), alpha=alpha, num_views=None, hint_stride=16
    )
    sent, plain = (pickle.dumps((each.training_set(), each.collate())) for each in (distillation, one))
    assert len(sent) < len(plain) + 1024, "no teacher and no task is sent to loader processes"
    examples = distillation.training_set().__getitems__([Key(0, row) for row in range(4)])
    batch = build_batch(examples, distillation.collate())
    assert batch.truth == []
    assert torch.equal(batch.targets.teacher_images, batch.images), "both take images of one size"
    assert (batch.targets.own is not None) == bool(alpha)

    learning = distillation.build_model()
    losses = distillation.loss(learning(batch.images), batch.targets)
    expected = (1 - alpha) * losses["teacher"] + losses["hint"]
    if alpha:
        own = one.collate()(examples)
        outputs = learning.eval()(batch.images)
        losses = distillation.loss(outputs, batch.targets)
        torch.testing.assert_close(losses["own"], one.loss(outputs.own, own)["total"])
        expected = (1 - alpha) * losses["teacher"] + alpha * losses["own"] + losses["hint"]
    torch.testing.assert_close(losses["total"], expected)
    losses["total"].backward()
    assert all(p.grad is None for p in network.parameters()), "the teacher does not learn"
    assert all(p.grad is not None for p in learning.adapter.parameters())
