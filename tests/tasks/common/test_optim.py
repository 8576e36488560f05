import pytest
import torch
from torch import nn

from backbone.base import Classifier
from backbone.mobilenet import MobileNet
from tasks.common.config import OptimConfig
from tasks.common.training.optim import EmaModel, build_optimizer, learning_rate, split_by_weight_decay


def test_weight_decay_is_on_standard_and_pointwise_kernels_only() -> None:
    """Section 3.2: the stem, 13 pointwise kernels and the classifier; not 13 depthwise ones, BN, biases."""
    model = Classifier(MobileNet(0.25), 10)
    decay, no_decay = split_by_weight_decay(model)
    assert len(decay) == 1 + 13 + 1
    assert len(no_decay) == 13 + 27 * 2 + 1
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert not any("depthwise" in names[id(p)] or "bn" in names[id(p)] or "bias" in names[id(p)] for p in decay)


def test_frozen_parameters_are_in_no_group() -> None:
    model = MobileNet(0.25)
    model.requires_grad_(False)
    assert split_by_weight_decay(model) == ([], [])


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_every_optimiser_lowers_a_loss(name: str) -> None:
    layer = nn.Linear(4, 1)
    optimizer = build_optimizer(layer, OptimConfig(name=name, lr=0.05))  # type: ignore[arg-type]
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (layer(x) - y).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_schedules_by_hand() -> None:
    cosine = OptimConfig(lr=0.4, schedule="cosine", epochs=10, warmup_epochs=2)
    rates = [learning_rate(cosine, step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(0.4 * 0.1, rel=0.01)  # first of ten warm-up steps
    assert rates[25] == pytest.approx(0.2)  # half-way
    assert rates[49] < 0.001
    paper = OptimConfig(lr=0.045, schedule="exponential", epochs=10, warmup_epochs=0)
    assert learning_rate(paper, 0, 5) == 0.045
    assert learning_rate(paper, 20, 5) == pytest.approx(0.045 * 0.94**2)  # after four epochs
    constant = OptimConfig(lr=0.1, schedule="constant", warmup_epochs=0)
    assert learning_rate(constant, 1000, 5) == 0.1


def test_ema_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    model[0].weight.data.fill_(1.0)
    ema = EmaModel(model, 0.9)
    expected = 1.0
    for n, value in enumerate((2.0, 5.0, 3.0)):
        model[0].weight.data.fill_(value)
        model[1].running_mean.fill_(value)
        ema.update(model)
        decay = 0.0 if n == 0 else min(0.9, (1 + n) / (10 + n))  # the first update is a copy
        expected = decay * expected + (1 - decay) * value
    assert ema.module[0].weight.item() == pytest.approx(expected)
    assert ema.module[1].running_mean.item() == 3.0  # copied
