"""Margin softmax against worked examples, semi-hard triplets against loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from datasets.types import Face
from tasks.embedding.loss import IdentityTargets, identity_targets, margin_softmax_loss, triplet_loss
from tasks.embedding.model import EmbeddingOutputs
from tests.tasks.laws import as_examples

KINDS = ("cosface", "arcface")


def targets_of(*ids: int) -> IdentityTargets:
    """The targets of photos with these identity ids."""
    truth = [Face(f"p{identity_id}", number) for number, identity_id in enumerate(ids)]
    return identity_targets(as_examples(truth), id_of={f"p{identity_id}": identity_id for identity_id in range(9)})


def outputs(num_photos: int = 6, num_identities: int = 4, dim: int = 8) -> EmbeddingOutputs:
    return EmbeddingOutputs(functional.normalize(torch.randn(num_photos, dim)), 3 * torch.randn(num_identities, dim))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_margin_it_is_softmax_over_cosines(kind: str) -> None:
    out, ids = outputs(), [0, 1, 2, 3, 0, 1]
    cosines = functional.cosine_similarity(out.embeddings[:, None], out.prototypes[None], dim=2)
    loss = margin_softmax_loss(out, targets_of(*ids), kind=kind, margin=0, scale=16)["total"]  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(functional.cross_entropy(16 * cosines, torch.tensor(ids)).item(), rel=1e-4)


def test_margins_of_a_worked_example() -> None:
    """A photo at 60 degrees to its own prototype and at 90 to the other."""
    out = EmbeddingOutputs(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, math.sqrt(3) / 2], [0.0, 2.0]]))
    for kind, positive in (("cosface", 0.5 - 0.2), ("arcface", math.cos(math.pi / 3 + 0.2))):
        loss = margin_softmax_loss(out, targets_of(0), kind=kind, margin=0.2, scale=10)["total"]  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(math.log(1 + math.exp(10 * (0 - positive))), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_increases_with_the_margin_at_every_angle(kind: str) -> None:
    """Also where angle + margin exceeds pi."""
    for angle in np.linspace(0.01, math.pi - 0.01, 15):
        out = EmbeddingOutputs(torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float32), torch.eye(2))
        losses = [
            margin_softmax_loss(out, targets_of(0), kind=kind, margin=m, scale=10)["total"].item()  # type: ignore[arg-type]
            for m in (0, 0.2, 0.5)
        ]
        assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_finite_for_a_photo_on_its_prototype(kind: str) -> None:
    embeddings = torch.eye(3)[:2].requires_grad_()
    loss = margin_softmax_loss(
        EmbeddingOutputs(embeddings, torch.eye(3)),
        targets_of(0, 1),
        kind=kind,
        margin=0.5,
        scale=10,  # type: ignore[arg-type]
    )
    loss["total"].backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


def reference_triplet_loss(embeddings: np.ndarray, ids: list[int], margin: float) -> float:
    def distance(i: int, j: int) -> float:
        return float(((embeddings[i] - embeddings[j]) ** 2).sum())

    losses = []
    for a in range(len(ids)):
        for p in range(len(ids)):
            if a == p or ids[a] != ids[p]:
                continue
            negatives = [distance(a, n) for n in range(len(ids)) if ids[n] != ids[a]]
            further = [d for d in negatives if d > distance(a, p)]
            losses.append(max(0.0, distance(a, p) - (min(further) if further else max(negatives)) + margin))
    return float(np.mean(losses))


@pytest.mark.parametrize("ids", [[0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1, 2], [3, 1, 3, 1, 2, 2, 1]])
def test_triplet_loss_equals_three_loops(ids: list[int]) -> None:
    for _ in range(5):
        embeddings = functional.normalize(torch.randn(7, 3).double())
        loss = triplet_loss(embeddings, targets_of(*ids), margin=0.2)["total"]
        assert loss.item() == pytest.approx(reference_triplet_loss(embeddings.numpy(), ids, 0.2), rel=1e-6)


def test_triplet_loss_is_zero_for_separated_identities() -> None:
    embeddings = torch.eye(4)[[0, 0, 1, 1]]
    assert triplet_loss(embeddings, targets_of(0, 0, 1, 1), margin=0.2)["total"].item() == 0


def test_triplet_loss_without_triplets_is_zero() -> None:
    embeddings = functional.normalize(torch.randn(3, 4)).requires_grad_()
    for ids in ([0, 0, 0], [0, 1, 2]):
        loss = triplet_loss(embeddings, targets_of(*ids), margin=0.2)["total"]
        assert loss.item() == 0
        loss.backward()
