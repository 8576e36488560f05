"""Each loss against its formula: in NumPy and SciPy, on worked examples, or as a law that the paper states."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import pearsonr
from torch import Tensor

from distill.config import ClassLoss
from distill.loss import box_loss, dist_loss, dkd_loss, embedding_loss, hint_loss, kd_loss
from distill.objectives import ClassObjective
from distill.student import StudentOutputs
from tasks.common.runtime.distributed import SINGLE_PROCESS, World

T = 2.5


@pytest.fixture
def logits(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Student's and teacher's, for 6 images and 5 classes."""
    return torch.from_numpy(rng.normal(0, 3, (6, 5))), torch.from_numpy(rng.normal(0, 3, (6, 5)))


def test_embedding_loss_is_two_minus_twice_the_cosine() -> None:
    a, b = (torch.nn.functional.normalize(torch.randn(7, 16), dim=1) for _ in range(2))
    cosines = torch.nn.functional.cosine_similarity(a, b)
    assert embedding_loss(a, b).item() == pytest.approx((2 - 2 * cosines).mean().item(), abs=1e-6)
    assert embedding_loss(torch.tensor([[3.0, 0], [0, 1]]), torch.tensor([[0.0, 4], [0, 1]])).item() == 12.5


def test_kd_is_scipys_relative_entropy(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    p, q = softmax(teacher.numpy() / T, 1), softmax(student.numpy() / T, 1)
    assert kd_loss(student, teacher, temperature=T).item() == pytest.approx(T**2 * rel_entr(p, q).sum(1).mean())
    assert kd_loss(teacher + 3, teacher, temperature=T).item() == pytest.approx(0, abs=1e-9)


def test_kd_gradient_does_not_depend_on_a_high_temperature(logits: tuple[Tensor, Tensor]) -> None:
    """Hinton et al. 2015, equation 4: at a high one, for logits of mean zero, it is (student - teacher) / K."""
    student, teacher = (part - part.mean(1, keepdim=True) for part in logits)
    student.requires_grad_()
    kd_loss(student, teacher, temperature=1e4).backward()
    expected = (student - teacher) / (student.shape[0] * student.shape[1])
    torch.testing.assert_close(student.grad, expected.detach(), atol=1e-4, rtol=1e-3)


def test_dkd_parts_make_up_kd(logits: tuple[Tensor, Tensor]) -> None:
    """The paper's reformulation: KD = TCKD + (1 - p_target of the teacher) NCKD; DKD weights the two by 1 and 8."""
    for row, class_id in enumerate([0, 3, 4, 1, 1, 2]):
        student, teacher = (part[row : row + 1] for part in logits)
        p, q = (softmax(part.numpy()[0] / T) for part in (teacher, student))
        tckd = T**2 * rel_entr([p[class_id], 1 - p[class_id]], [q[class_id], 1 - q[class_id]]).sum()
        others = np.arange(5) != class_id
        nckd = T**2 * rel_entr(p[others] / p[others].sum(), q[others] / q[others].sum()).sum()
        loss = dkd_loss(student, teacher, torch.tensor([class_id]), temperature=T).item()
        assert loss == pytest.approx(tckd + 8 * nckd)
        assert kd_loss(student, teacher, temperature=T).item() == pytest.approx(tckd + (1 - p[class_id]) * nckd)


def test_dist_is_scipys_correlation_of_rows_and_columns(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    p, q = (softmax(part.numpy() / T, 1) for part in (student, teacher))
    rows = np.mean([1 - pearsonr(a, b)[0] for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - pearsonr(a, b)[0] for a, b in zip(p.T, q.T, strict=True)])
    assert dist_loss(student, teacher, temperature=T).item() == pytest.approx(T**2 * (rows + columns), abs=1e-6)


def test_box_loss_of_a_worked_example() -> None:
    """Two anchors, one class: the teacher is certain of background at the first; an object at the second."""
    teacher_logits = torch.tensor([[[0.0, -30.0], [0.0, 1.0]]])
    teacher = torch.cat([teacher_logits, torch.tensor([[[9.0, 9, 9, 9], [1.0, 0, 0, 0]]])], 2)
    student_logits, deltas = torch.tensor([[[1.0, -1.0], [0.5, 0.2]]]), torch.tensor([[[0.0, 0, 0, 0], [1.5, 3, 0, 0]]])
    p = softmax(teacher_logits.numpy()[0], 1)
    q = log_softmax(student_logits.numpy()[0], 1)
    objects = max(1, (1 - p[:, 0]).sum())
    classes, boxes = box_loss(student_logits, deltas, teacher)
    assert classes.item() == pytest.approx(-(np.array([1.5, 1]) * p * q).sum() / objects, rel=1e-5)
    smooth_l1 = 0.5 * 0.5**2 + (3 - 0.5)
    assert boxes.item() == pytest.approx((1 - p[1, 0]) * smooth_l1 / objects, rel=1e-4)


def test_box_gradient_of_a_perfect_student_is_zero() -> None:
    teacher = torch.randn(2, 5, 3 + 4)
    logits, deltas = teacher[..., :3].clone().requires_grad_(), teacher[..., 3:].clone().requires_grad_()
    box_loss(logits, deltas, teacher)[1].backward()
    assert deltas.grad is not None
    assert deltas.grad.abs().max() == 0


def test_hint_is_half_the_mean_square_at_the_smaller_size() -> None:
    student, teacher = torch.zeros(1, 1, 2, 2), torch.arange(16.0).view(1, 1, 4, 4)
    means = np.array([2.5, 4.5, 10.5, 12.5])  # of the four quarters
    assert hint_loss(student, teacher).item() == pytest.approx((means**2).mean() / 2)
    assert hint_loss(teacher, student).item() == pytest.approx((means**2).mean() / 2)


class Half(World):
    """One of two processes with half a batch each, given the counts and rows of the whole batch."""

    def __init__(self, count: float, rows: Sequence[Tensor] = ()) -> None:
        super().__init__(size=2)
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "rows", iter(rows))

    def normalizer(self, count: Tensor) -> Tensor:
        return count.new_tensor(self.count).clamp(min=1) / 2  # type: ignore[attr-defined]

    def all_rows(self, rows: Tensor) -> Tensor:
        whole: Tensor = next(self.rows)  # type: ignore[attr-defined]
        assert any(torch.equal(rows, half) for half in whole.chunk(2))
        return whole


def test_two_processes_mean_loss_of_boxes_is_the_whole_batchs() -> None:
    teacher, logits, deltas = torch.randn(6, 5, 3 + 4), torch.randn(6, 5, 3), torch.randn(6, 5, 4)
    teacher[:2, :, 0] += 9  # the halves have different numbers of objects
    world = Half((1 - teacher[..., :-4].softmax(-1)[..., 0]).sum().item())
    halves = [box_loss(*parts, world) for parts in zip(logits.chunk(2), deltas.chunk(2), teacher.chunk(2), strict=True)]
    for part, whole in zip(zip(*halves, strict=True), box_loss(logits, deltas, teacher), strict=True):
        torch.testing.assert_close(sum(part) / 2, whole)


@pytest.mark.parametrize("class_loss", ["kd", "dkd", "dist"])
def test_two_processes_mean_loss_of_classes_is_the_whole_batchs(
    class_loss: ClassLoss, logits: tuple[Tensor, Tensor]
) -> None:
    objective = ClassObjective([5], class_loss, T)

    def loss(student: Tensor, teacher: Tensor, world: World) -> Tensor:
        return objective.loss(StudentOutputs(None, student, torch.zeros(0)), teacher, world)

    halves = [loss(*parts, Half(0, logits)) for parts in zip(*(part.chunk(2) for part in logits), strict=True)]
    torch.testing.assert_close(sum(halves) / 2, loss(*logits, SINGLE_PROCESS))
