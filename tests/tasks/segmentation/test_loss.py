"""The loss against torch's cross-entropy and hand arithmetic; void pixels have no part in it."""

import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import VOID
from tasks.common.runtime.distributed import World
from tasks.segmentation.loss import SegmentationTargets, class_weights, segmentation_loss, segmentation_targets
from tasks.segmentation.model import AuxiliaryOutputs, SegmentationOutputs

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 3, 4, 5, requires_grad=True)


@pytest.fixture
def targets(rng: np.random.Generator) -> SegmentationTargets:
    masks = rng.choice(np.uint8([0, 1, 2, VOID]), (2, 16, 19))
    return segmentation_targets(list(masks))


def expected_loss(logits: Tensor, targets: SegmentationTargets, weights: Tensor | None) -> Tensor:
    resized = functional.interpolate(logits, (16, 19), mode="bilinear")
    return functional.cross_entropy(resized, targets.class_ids.long(), weights, ignore_index=255)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_loss_is_torchs_mean_over_counted_pixels(
    weights: Tensor | None, logits: Tensor, targets: SegmentationTargets
) -> None:
    outputs = AuxiliaryOutputs(logits, torch.randn(2, 3, 2, 3))
    losses = segmentation_loss(outputs, targets, class_weights=weights, auxiliary_weight=0.4)
    pixels, auxiliary = (expected_loss(each, targets, weights) for each in outputs)
    torch.testing.assert_close(losses, {"total": pixels + 0.4 * auxiliary, "pixels": pixels, "auxiliary": auxiliary})
    alone = segmentation_loss(SegmentationOutputs(logits), targets, class_weights=weights)
    torch.testing.assert_close(alone, {"total": pixels})


def test_void_pixels_have_no_gradient_and_a_void_batch_no_loss(targets: SegmentationTargets) -> None:
    logits = torch.randn(2, 3, 16, 19, requires_grad=True)
    segmentation_loss(SegmentationOutputs(logits), targets, class_weights=WEIGHTS)["total"].backward()
    assert torch.equal(cast(Tensor, logits.grad).any(1), targets.class_ids != VOID)
    void = SegmentationTargets(torch.full((2, 16, 19), VOID, dtype=torch.uint8))
    for weights in (None, WEIGHTS):
        assert segmentation_loss(SegmentationOutputs(logits), void, class_weights=weights)["total"] == 0


class HalfOfTwo(World):
    """One of two processes; the sum over both is given."""

    total: Tensor

    def normalizer(self, count: Tensor) -> Tensor:
        return self.total / 2


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_mean_over_processes_is_the_loss_of_the_whole_batch(
    weights: Tensor | None, logits: Tensor, targets: SegmentationTargets
) -> None:
    targets.class_ids[1, :8] = VOID  # so that the halves have other numbers of pixels
    counted = targets.class_ids[targets.class_ids != VOID].long()
    world = HalfOfTwo(0, 2)
    object.__setattr__(world, "total", torch.tensor(float(len(counted))) if weights is None else weights[counted].sum())
    parts = [
        segmentation_loss(
            SegmentationOutputs(logits[row : row + 1]),
            SegmentationTargets(targets.class_ids[row : row + 1]),
            world,
            class_weights=weights,
        )["total"]
        for row in (0, 1)
    ]
    torch.testing.assert_close(sum(parts) / 2, expected_loss(logits, targets, weights))


def test_class_weights_by_hand() -> None:
    """Fractions 0.9, 0.1, 0: at exponent 1 the weights are as 1/0.9, 1/0.1, 1/0.001, and the mean over pixels is 1."""
    torch.testing.assert_close(class_weights([90, 10, 0], 1), torch.tensor([0.5 / 0.9, 0.5 / 0.1, 0.5 / 0.001]))
    roots = np.array([1 / math.sqrt(0.9), 1 / math.sqrt(0.1)]) / (math.sqrt(0.9) + math.sqrt(0.1))
    np.testing.assert_allclose(class_weights([90, 10], 0.5), roots, rtol=1e-6)
    assert torch.equal(class_weights([90, 10, 0], 0), torch.ones(3))
