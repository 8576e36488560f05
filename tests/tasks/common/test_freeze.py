"""Gradual unfreezing: frozen stages do not change, BN statistics included."""

import torch
from torch.nn import functional

from backbone.base import Classifier
from backbone.mobilenet import MobileNet
from tasks.common.config import OptimConfig
from tasks.common.training.freeze import frozen_stages, set_trainable
from tasks.common.training.optim import build_optimizer

GRADUAL = OptimConfig(layers="gradual", unfreeze_epochs=2, lr=0.1)


def test_one_stage_more_every_two_epochs_from_the_last() -> None:
    model = Classifier(MobileNet(0.25), 3)
    assert [len(frozen_stages(model, GRADUAL, epoch)) for epoch in range(13)] == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 0]
    assert frozen_stages(model, OptimConfig(), 0) == []
    assert frozen_stages(model, GRADUAL, 8)[0][0] is model.backbone.layers[0]


def test_frozen_stages_do_not_change_and_others_do() -> None:
    model = Classifier(MobileNet(0.25), 3)
    optimizer = build_optimizer(model, GRADUAL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = frozen_stages(model, GRADUAL, 3)  # the last stage and the head are trained
    set_trainable(model, list(model.parameters()), frozen, freeze_bn=False)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    first_trained = sum(len(stage) for stage in model.backbone.stages()[:-1])
    trained = tuple(f"backbone.layers.{index}." for index in range(first_trained, len(model.backbone.layers)))
    assert all(name.startswith((*trained, "head.")) for name in changed)
    assert any("running_mean" in name for name in changed)

    set_trainable(model, list(model.parameters()), [], freeze_bn=False)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_freeze_bn_keeps_the_statistics() -> None:
    model = Classifier(MobileNet(0.25), 3)
    before = {name: value.clone() for name, value in model.named_buffers()}
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    set_trainable(model, list(model.parameters()), [], freeze_bn=True)
    model(images)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert all(parameter.requires_grad for parameter in model.parameters())
    set_trainable(model, list(model.parameters()), [], freeze_bn=False)
    model(images)
    assert not all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_parameters_frozen_by_the_model_stay_frozen() -> None:
    model = Classifier(MobileNet(0.25), 3)
    first = next(model.backbone.parameters()).requires_grad_(False)
    optimizer = build_optimizer(model, GRADUAL)
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for epoch in (0, 5, 99):
        set_trainable(model, trainable, frozen_stages(model, GRADUAL, epoch), freeze_bn=False)
        assert not first.requires_grad
    assert all(parameter.requires_grad for parameter in model.parameters() if parameter is not first)
