"""What every task must do; `conftest.py` has the list of tasks."""

import copy
import dataclasses
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from datasets.loader import Key, build_batch
from datasets.types import Batch, map_tensors
from tasks.common.deploy.onnx_file import ExportedNetwork, write_onnx
from tasks.common.evaluation.evaluate import evaluate, evaluation_loader, predict_batch
from tasks.common.runs.checkpoint import load_checkpoint, save_best
from tasks.registry import TASKS, config_class
from tests.tasks.conftest import CONFIGS, as_prediction, build_config

TinyTask = Callable[..., Any]


def training_batch(task: Any, number: int = 4, num_epochs: int = 1) -> Any:
    dataset = task.training_set()
    examples = [dataset[Key(epoch, index)] for epoch in range(num_epochs) for index in range(number)]
    return build_batch(examples, task.collate())


def plain_batch(task: Any, number: int = 4) -> Any:
    return next(iter(evaluation_loader(task, task.source("train"), number)))


def plain_training_batch(task: Any, number: int = 4) -> Any:
    """Preprocessed as for prediction, with both truth and targets."""
    dataset = evaluation_loader(task, task.source("train"), number).dataset
    examples: list[Any] = [dataset[row] for row in range(number)]
    return dataclasses.replace(build_batch(examples), targets=task.collate()(examples))


def learn(task: Any, model: Any, batch: Any) -> dict[str, Any]:
    inputs = (batch.images, batch.targets) if getattr(model, "needs_targets", False) else (batch.images,)
    losses: dict[str, Any] = task.loss(model(*inputs), batch.targets)
    return losses


def short_name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


@pytest.mark.parametrize(
    "file", [file for task in TASKS for file in sorted((CONFIGS / task).glob("*.yaml"))], ids=short_name
)
def test_yaml_loads_dumps_and_loads_equal(file: Path, tmp_path: Path) -> None:
    settings_class = config_class(file.parent.name)
    config = build_config(settings_class, file)
    dumped = tmp_path / "config.yaml"
    dumped.write_text(yaml.safe_dump(dataclasses.asdict(config)))
    assert build_config(settings_class, dumped) == config


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=short_name)
def test_yaml_opens_with_what_it_is_how_it_runs_and_what_to_expect(file: Path) -> None:
    opening = file.read_text().splitlines()[:3]
    assert opening[0].startswith("# ")
    assert opening[1].startswith("# Run:    python -m ")
    assert opening[2].startswith("# Expect: ")


def test_gradient_reaches_every_trainable_parameter(tiny_task: TinyTask) -> None:
    task = tiny_task()
    model = task.build_model().train()
    batch = training_batch(task, 24, num_epochs=4)  # enough that every output has something to learn
    learn(task, model, batch)["total"].backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert not without


def test_loss_is_positive_finite_and_the_same_for_the_same_seed(tiny_task: TinyTask) -> None:
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        task = tiny_task()
        batch = training_batch(task)
        losses = learn(task, task.build_model().train(), batch)
        assert all(loss.ndim == 0 for loss in losses.values())
        values.append({name: loss.item() for name, loss in losses.items()})
    assert values[0] == values[1]
    assert 0 < values[0]["total"] < math.inf


def test_truth_fed_back_scores_perfectly(tiny_task: TinyTask) -> None:
    task = tiny_task()
    batch = plain_batch(task, 8)
    metric = task.metric()
    predicted = as_prediction(batch.truth)
    metric.update(predicted[:3], batch.truth[:3])
    metric.update(predicted[3:], batch.truth[3:])
    assert metric.compute()[task.score_name] == pytest.approx(1)


def test_overfits_four_images(tiny_task: TinyTask) -> None:
    task = tiny_task(data={"input_size": 160})
    model = task.build_model()
    batch = plain_training_batch(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(50):
        model.train()
        for _ in range(10):
            optimizer.zero_grad()
            learn(task, model, batch)["total"].backward()
            optimizer.step()
        metric = task.metric()
        metric.update(predict_batch(task, model, batch.images), batch.truth)
        if metric.compute()[task.score_name] > 0.9:
            return
    pytest.fail(f"after 500 steps: {metric.compute()}")


def test_checkpoint_round_trip_is_bit_equal(tiny_task: TinyTask, tmp_path: Path) -> None:
    task = tiny_task()
    model = task.build_model()
    save_best(tmp_path, {"task": task.name, "metadata": dict(task.metadata), "model": model.state_dict()})
    content = load_checkpoint(tmp_path / "best.pt", task.name)
    again = type(task)(task.config, content["metadata"]).build_model()
    again.load_state_dict(content["model"])
    batch = plain_batch(task)
    first, second = (network.eval()(batch.images) for network in (model, again))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# Each kind of network once, since an export takes seconds: attributes and classes have geolocation's.
@pytest.mark.parametrize(
    "tiny_task",
    ["detection/sample", "detection/faster_rcnn_sample", "embedding/sample", "geolocation/sample"],
    indirect=True,
)
def test_exported_network_gives_the_same(tiny_task: TinyTask, tmp_path: Path) -> None:
    task = tiny_task()
    network = task.build_model()
    images = plain_batch(task).images
    with torch.no_grad():
        network.backbone.train()(images)  # else batch normalisation would be the identity
    path = tmp_path / "model.onnx"
    if type(network).__name__ == "FasterRCNN":
        with pytest.raises(ValueError, match="FasterRCNN cannot be exported to ONNX"):
            write_onnx(network, 96, path, task.name, task.metadata)
        return
    write_onnx(network, 96, path, task.name, task.metadata)
    exported = ExportedNetwork(path)
    assert (exported.task, exported.input_size, exported.metadata) == (task.name, 96, task.metadata)
    for number in (1, 3):
        ours, theirs = network.eval()(images[:number]), exported(images[:number])
        assert theirs._fields == ours._fields
        for name, value in ours._asdict().items():
            if name != "prototypes":
                torch.testing.assert_close(getattr(theirs, name), value, atol=1e-4, rtol=1e-4)
        assert len(task.decode(theirs)) == number


def test_data_can_be_sent_to_worker_processes(tiny_task: TinyTask) -> None:
    """Where processes are not forked, what they load from is pickled."""
    task = tiny_task()
    for dataset, key in (
        (task.training_set(), Key(1, 2)),
        (evaluation_loader(task, task.source("val"), 4).dataset, 2),
    ):
        there = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(there[key].image, dataset[key].image)
    examples = [task.training_set()[Key(0, row)] for row in range(3)]
    there = pickle.loads(pickle.dumps(task.collate()))
    for ours, theirs in zip(task.collate()(examples), there(examples), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_targets_are_tensors_of_as_many_images(tiny_task: TinyTask) -> None:
    """They are pinned and moved in one call, and what a loss makes of them has no NumPy in between."""
    task = tiny_task()
    batch = training_batch(task, 5)
    assert batch.truth == []
    assert batch.targets
    assert all(isinstance(part, torch.Tensor) and len(part) == 5 for part in batch.targets)
    seen: list[torch.Tensor] = []
    map_tensors(lambda tensor: seen.append(tensor) or tensor, batch.targets)  # type: ignore[func-returns-value]
    assert len(seen) == len(batch.targets)
    assert isinstance(batch.to(torch.device("cpu")), Batch)


@pytest.mark.gpu
def test_losses_on_a_gpu_are_those_of_a_cpu(tiny_task: TinyTask) -> None:
    task = tiny_task()
    model, batch = task.build_model().train(), training_batch(task, 8)
    on_cpu = learn(task, copy.deepcopy(model), batch)
    on_gpu = learn(task, model.cuda(), batch.to(torch.device("cuda")))
    for name, loss in on_cpu.items():
        assert on_gpu[name].item() == pytest.approx(loss.item(), rel=1e-3)


def test_vocabulary_is_plain_json(tiny_task: TinyTask) -> None:
    metadata = dict(tiny_task().metadata)
    assert json.loads(json.dumps(metadata)) == metadata


def test_evaluation_does_not_depend_on_batch_size(tiny_task: TinyTask) -> None:
    task = tiny_task()
    model = task.build_model()
    source = task.source("val")
    scores = [evaluate(task, model, evaluation_loader(task, source, n)).scores[task.score_name] for n in (3, 8)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_draws_and_describes_without_touching_the_image(tiny_task: TinyTask) -> None:
    task = tiny_task()
    example = task.source("val")[0]
    before = copy.deepcopy(example.image)
    (predicted,) = predict_batch(task, task.build_model(), plain_batch(task, 1).images)
    picture = task.draw(example.image, predicted, example.truth)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    np.testing.assert_array_equal(example.image, before)
    json.dumps(task.describe(predicted, example.image.shape[:2]))


def test_model_without_data_has_as_many_outputs_as_asked(tiny_task: TinyTask) -> None:
    task = tiny_task()
    few, many = (
        sum(p.numel() for p in type(task).with_num_classes(task.config, number).build_model().parameters())
        for number in (2, 20)
    )
    assert few < many
