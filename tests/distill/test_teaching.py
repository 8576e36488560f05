"""What teachers say of a batch: agreement of several, halves, and memory; and what students do with it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.types import Attributes
from distill.lessons import Lesson, UnlabelledImages
from distill.student import StudentOutputs, build_rotation
from distill.subjects import build_subject
from distill.teachers import Teacher
from distill.teaching import Teaching
from tasks.common.config import LoopConfig
from tasks.common.logits import Logits
from tasks.embedding import EmbeddingOutputs


class Means(nn.Module):
    """Embeds an image by the means of its colours; counts what it is asked."""

    def __init__(self, sign: int = 1) -> None:
        super().__init__()
        self.register_buffer("sign", torch.tensor(float(sign)))
        self.num_asked = 0

    def forward(self, images: Tensor) -> EmbeddingOutputs:
        self.num_asked += len(images)
        means = nn.functional.normalize(self.get_buffer("sign") * (images.float().mean((2, 3)) - 100))
        return EmbeddingOutputs(means, means.new_zeros(0, 3))


@pytest.fixture
def teaching(student: Callable[..., Any]) -> Callable[..., Teaching]:
    task = student("embedding", data={"input_size": 32})

    def build(*models: nn.Module) -> Teaching:
        teachers = [Teacher("means", task, model, digest="d") for model in models]
        return Teaching(teachers, build_subject(task, class_loss="kd", temperature=1), loop=LoopConfig())

    return build


def lessons_of(rng: np.random.Generator, rows: Sequence[int]) -> list[Lesson[None]]:
    return [Lesson(row, row % 2, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), None) for row in rows]


def test_remembers_for_the_next_one(teaching: Callable[..., Teaching], rng: np.random.Generator, tmp_path: Any) -> None:
    source = UnlabelledImages([tmp_path / f"{row}.jpg" for row in range(9)], None)
    lessons = lessons_of(rng, range(9))
    plain = teaching(Means())(lessons).answer
    for asked in (9, 0):
        model = Means()
        one = teaching(model)
        model.num_asked = 0
        one.remember(source, 2, seed=0)
        first, again = one(lessons[:5]).answer, one(lessons).answer
        assert model.num_asked == one.num_asked == asked
        assert one.saved_s > 0, "known for the second one from the first"
        one.close()
        assert torch.equal(again, plain), "the same, whoever says it"
        assert torch.equal(first, plain[:5])
    assert one.num_remembered == 14

    changed = [Lesson(lesson.row, lesson.view, 255 - lesson.pixels, None) for lesson in lessons]
    one(changed)
    assert one.num_asked == 9, "other pixels are another question"


def test_answers_are_what_the_teacher_says_in_halves(
    teaching: Callable[..., Teaching], rng: np.random.Generator
) -> None:
    lessons = lessons_of(rng, range(4))
    images = torch.from_numpy(np.stack([lesson.pixels for lesson in lessons])).permute(0, 3, 1, 2)
    torch.testing.assert_close(
        teaching(Means())(lessons).answer, Means()(images).embeddings.half().float(), atol=0, rtol=0
    )


def test_two_teachers_cosines_are_averaged(teaching: Callable[..., Teaching], rng: np.random.Generator) -> None:
    lessons = lessons_of(rng, range(6))
    one, other = Means(), nn.Sequential(Means(-1))
    both = teaching(one, other)(lessons).answer
    single = [teaching(model)(lessons).answer for model in (one, other)]
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
    truth = [Attributes(values) for values in decoded.astype(np.float32)]
    expected = teacher_task.loss(outputs, truth)["total"]
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


def test_a_teacher_that_breaks_down_is_named(teaching: Callable[..., Teaching], rng: np.random.Generator) -> None:
    model = Means()
    one = teaching(model)
    model.sign = torch.tensor(float("nan"))
    with pytest.raises(ValueError, match="means: its answers are not finite"):
        one(lessons_of(rng, [0]))
