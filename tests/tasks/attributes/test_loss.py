"""The weighted cross-entropy against torch's, and decoding that corrects for the weights."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional

from datasets.types import Attributes
from tasks.attributes.loss import AttributeTargets, attribute_loss, attribute_targets, positive_weights
from tasks.attributes.model import attribute_probabilities, decode_attributes
from tasks.common.model.logits import Logits
from tests.tasks.laws import as_examples


def targets_of(truth: Sequence[Attributes]) -> AttributeTargets:
    return attribute_targets(as_examples(truth))


def test_positive_weights_of_a_worked_example() -> None:
    assert positive_weights([0.5, 0.2, 0.9], 1).tolist() == pytest.approx([1, 4, 1 / 9])
    assert positive_weights([0.5, 0.2, 0.9], 0.5).tolist() == pytest.approx([1, 2, 1 / 3])
    assert positive_weights([0.5, 0.2, 0.9], 0).tolist() == pytest.approx([1, 1, 1])
    assert positive_weights([0, 1], 1).isfinite().all()


def test_loss_without_balance_is_plain_cross_entropy(rng: np.random.Generator) -> None:
    logits = torch.randn(6, 4)
    truth = rng.random((6, 4)).astype(np.float32)  # a teacher's probabilities
    loss = attribute_loss(Logits(logits), targets_of([Attributes(row) for row in truth]), torch.ones(4))
    expected = functional.binary_cross_entropy(logits.sigmoid(), torch.from_numpy(truth))
    assert loss["total"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("balance", [0, 0.5, 1])
def test_decoded_probability_is_calibrated_for_any_balance(balance: float) -> None:
    """Of a hundred identical images seven have the attribute: the optimal prediction is 0.07."""
    weights = positive_weights([0.07, 0.6], balance)
    targets = targets_of([Attributes(np.array([i < 7, i < 60], np.float32)) for i in range(100)])
    logits = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = attribute_loss(Logits(logits.expand(100, 2)), targets, weights)["total"]
        total.backward()
        return total

    optimizer.step(closure)
    (decoded,) = decode_attributes(attribute_probabilities(Logits(logits.detach()[None]), weights))
    assert decoded.values == pytest.approx([0.07, 0.6], abs=1e-3)


def test_balance_one_weighs_positives_and_negatives_equally() -> None:
    """A constant prediction of 1/2 is then optimal: the gradient at logit 0 is zero."""
    targets = targets_of([Attributes(np.array([i < 7], np.float32)) for i in range(100)])
    logits = torch.zeros(100, 1, requires_grad=True)
    attribute_loss(Logits(logits), targets, positive_weights([0.07], 1))["total"].backward()
    assert logits.grad is not None
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-6)
