"""The contract of a task, run for every task in `tasks/registry.py`.

To write a task, add its name to the registry and follow the failures of

    python -m pytest tests/test_layers.py tests/tasks/test_contract.py -k <task>

Each says what the task must provide, in which file, and which existing task to copy.
"""

import copy
import dataclasses
import importlib
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from datasets.batch import Batch, map_tensors
from datasets.loader import Key, build_batch
from datasets.types import Detections
from tasks.common.config import TaskConfig
from tasks.common.deploy import predictor
from tasks.common.deploy.exported import ExportedModel, ExportedPredictor
from tasks.common.deploy.onnx_file import ExportedNetwork, add_postprocessing, write_onnx
from tasks.common.evaluation.evaluate import evaluate, evaluation_loader, predict_batch
from tasks.common.prediction.model import Model
from tasks.common.runs.checkpoint import load_checkpoint, save_best
from tasks.common.runs.folder import write_settings
from tasks.common.runs.load import open_run
from tasks.common.settings import replace_settings
from tasks.common.task import Task
from tasks.registry import TASKS, check_metadata, config_class, inference_class, task_class
from tests.conftest import SAMPLE_SIZES
from tests.tasks.conftest import CONFIGS, SAMPLES, TinyTask, as_prediction, build_config
from tests.tasks.requirement import requirement


def training_batch(task: Any, num_examples: int = 4, num_epochs: int = 1) -> Any:
    dataset = task.training_set()
    examples = [dataset[Key(epoch, row)] for epoch in range(num_epochs) for row in range(num_examples)]
    return build_batch(examples, task.collate())


def plain_batch(task: Any, num_examples: int = 4) -> Any:
    return next(iter(evaluation_loader(task, task.source("train"), num_examples)))


def plain_training_batch(task: Any, num_examples: int = 4) -> Any:
    """Preprocessed as for prediction, with both truth and targets."""
    dataset = evaluation_loader(task, task.source("train"), num_examples).dataset
    examples: list[Any] = [dataset[row] for row in range(num_examples)]
    return dataclasses.replace(build_batch(examples), targets=task.collate()(examples))


def compute_losses(task: Any, model: Any, batch: Any) -> dict[str, Any]:
    inputs = (batch.images, batch.targets) if getattr(model, "needs_targets", False) else (batch.images,)
    losses: dict[str, Any] = task.loss(model(*inputs), batch.targets)
    return losses


def short_name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


# --- the parts of a task


@pytest.mark.parametrize("task", TASKS)
@requirement(
    "the settings are a frozen dataclass `{Task}Config(TaskConfig)` with `data.root` and `data.input_size`",
    provide="tasks/{task}/config.py: {Task}Config",
    copy="tasks/attributes/config.py: AttributesConfig",
)
def test_settings_extend_those_of_every_task(task: str) -> None:
    settings = config_class(task)
    assert issubclass(settings, TaskConfig), f"{settings.__name__} is not a subclass of TaskConfig"
    data = next((field.default_factory for field in dataclasses.fields(settings) if field.name == "data"), None)
    assert dataclasses.is_dataclass(data), "no group `data`"
    missing = {"root", "input_size"} - {field.name for field in dataclasses.fields(data)}
    assert not missing, f"no setting data.{' or data.'.join(sorted(missing))}"


@pytest.mark.parametrize("task", TASKS)
@requirement(
    "`{Task}Task(Task)` implements every abstract method of tasks/common/task.py: Task",
    provide="tasks/{task}/task.py: {Task}Task",
    copy="tasks/attributes/task.py: AttributesTask; the smallest one: tests/tasks/common/test_toy_task.py",
)
def test_task_implements_every_abstract_method(task: str) -> None:
    implementation = task_class(task)
    assert issubclass(implementation, Task), f"{implementation.__name__} is not a subclass of Task"
    methods = sorted(implementation.__abstractmethods__)
    described = [f"\n    {name}: {str(getattr(Task, name).__doc__).splitlines()[0]}" for name in methods]
    assert not methods, f"{len(methods)} methods are missing:{''.join(described)}"


@pytest.mark.parametrize("task", TASKS)
@requirement(
    "a sample is generated in the layout of the real data",
    provide="datasets/sample/{task}.py: write_sample(root, num_images) and sample_root()",
    copy="datasets/sample/attributes.py",
)
def test_sample_data_is_generated(task: str) -> None:
    module = importlib.import_module(f"datasets.sample.{task}")
    missing = [name for name in ("write_sample", "sample_root") if not hasattr(module, name)]
    assert not missing, f"no function {' or '.join(missing)}"


@pytest.mark.parametrize("task", TASKS)
@requirement(
    "the sample trains with a YAML file and is part of these tests",
    provide="configs/{task}/sample.yaml; '{task}/sample' in tests/tasks/conftest.py: SAMPLES; '{task}' in "
    "tests/conftest.py: SAMPLE_SIZES",
    copy="configs/attributes/sample.yaml, and the lines of attributes in both tables",
)
def test_sample_is_tested(task: str) -> None:
    assert (CONFIGS / task / "sample.yaml").is_file(), f"no file configs/{task}/sample.yaml"
    assert f"{task}/sample" in SAMPLES, f"no '{task}/sample' in SAMPLES"
    assert task in SAMPLE_SIZES, f"no '{task}' in SAMPLE_SIZES"


@pytest.mark.parametrize(
    "file", [file for task in TASKS for file in sorted((CONFIGS / task).glob("*.yaml"))], ids=short_name
)
def test_yaml_loads_dumps_and_loads_equal(file: Path, tmp_path: Path) -> None:
    settings_class = config_class(file.parent.name)
    config = build_config(settings_class, file)
    dumped = tmp_path / "config.yaml"
    dumped.write_text(yaml.safe_dump(dataclasses.asdict(config)))
    assert build_config(settings_class, dumped) == config, (
        f"{file}: a setting changes when it is written as YAML and read again; use plain types"
    )


@pytest.mark.parametrize("file", sorted({*CONFIGS.rglob("*.yaml")} - {*CONFIGS.glob("cluster/*")}), ids=short_name)
def test_yaml_opens_with_what_it_is_how_it_runs_and_what_to_expect(file: Path) -> None:
    opening = file.read_text().splitlines()[:3]
    expected = ("# ", "# Run:    python -m ", "# Expect: ")
    for line, start in zip(opening, expected, strict=True):
        assert line.startswith(start), f"{file}: expected a line `{start}...` as in configs/attributes/sample.yaml"


# --- training


@requirement(
    "targets are a NamedTuple of tensors with a row per image, without NumPy arrays",
    provide="tasks/{task}/loss.py: a NamedTuple and a collate function; tasks/{task}/task.py: {Task}Task.collate",
    copy="tasks/attributes/loss.py: AttributeTargets",
)
def test_targets_are_tensors_with_a_row_per_image(tiny_task: TinyTask) -> None:
    """So that they are pinned and copied to the device with the images."""
    task = tiny_task()
    batch = training_batch(task, 5)
    assert batch.truth == []
    assert isinstance(batch.targets, tuple)
    assert batch.targets
    assert all(isinstance(part, torch.Tensor) and len(part) == 5 for part in batch.targets)
    seen: list[torch.Tensor] = []
    map_tensors(lambda tensor: seen.append(tensor) or tensor, batch.targets)  # type: ignore[func-returns-value]
    assert len(seen) == len(batch.targets)
    assert isinstance(batch.to(torch.device("cpu")), Batch)


@requirement(
    "the loss is a dict of scalars with a positive, finite `total`, the same for the same seed",
    provide="tasks/{task}/loss.py; tasks/{task}/task.py: {Task}Task.loss",
    copy="tasks/attributes/loss.py: attribute_loss",
)
def test_loss_is_positive_finite_and_the_same_for_the_same_seed(tiny_task: TinyTask) -> None:
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        task = tiny_task()
        batch = training_batch(task)
        losses = compute_losses(task, task.build_model().train(), batch)
        assert "total" in losses, f"the keys are {list(losses)}"
        assert all(loss.ndim == 0 for loss in losses.values()), {name: loss.shape for name, loss in losses.items()}
        values.append({name: loss.item() for name, loss in losses.items()})
    assert values[0] == values[1], f"{values[0]}, then {values[1]}"
    assert 0 < values[0]["total"] < math.inf


@requirement(
    "the loss gives a gradient to every trainable parameter",
    provide="tasks/{task}/loss.py, or parameters with requires_grad=False in tasks/{task}/model.py",
    copy="tasks/attributes/loss.py, tasks/attributes/model.py",
)
def test_gradient_reaches_every_trainable_parameter(tiny_task: TinyTask) -> None:
    task = tiny_task()
    model = task.build_model().train()
    batch = training_batch(task, 24, num_epochs=4)  # enough that every output occurs
    compute_losses(task, model, batch)["total"].backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert not without, f"no gradient: {', '.join(without)}"


@requirement(
    "the model overfits four images: loss, decoding and metric agree with each other",
    provide="tasks/{task}/loss.py (targets and loss), tasks/{task}/task.py: {Task}Task.decode, tasks/{task}/metric.py",
    copy="tasks/attributes/task.py: AttributesTask.decode",
)
def test_overfits_four_images(tiny_task: TinyTask) -> None:
    task = tiny_task(data={"input_size": 128})
    model = task.build_model()
    batch = plain_training_batch(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(50):
        model.train()
        for _ in range(10):
            optimizer.zero_grad()
            compute_losses(task, model, batch)["total"].backward()
            optimizer.step()
        metric = task.metric()
        metric.update(predict_batch(task, model, batch.images), batch.truth)
        if metric.compute()[task.score_name] > 0.9:
            return
    raise AssertionError(f"after 500 steps: {metric.compute()}")


@requirement(
    "data sets, augmentation, preprocessing and collate functions can be pickled for loader processes",
    provide="tasks/{task}/task.py: module-level functions, classes or functools.partial instead of lambdas and "
    "closures, without a reference to the task",
    copy="tasks/attributes/task.py: AttributesTask.preprocessing, AttributesTask.collate",
)
def test_data_can_be_sent_to_worker_processes(tiny_task: TinyTask) -> None:
    task = tiny_task()
    for dataset, key in (
        (task.training_set(), Key(1, 2)),
        (evaluation_loader(task, task.source("val"), 4).dataset, 2),
    ):
        restored = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(restored[key].image, dataset[key].image)
    examples = [task.training_set()[Key(0, row)] for row in range(3)]
    restored = pickle.loads(pickle.dumps(task.collate()))
    for expected, actual in zip(task.collate()(examples), restored(examples), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.gpu
@requirement(
    "losses on a GPU equal those on the CPU",
    provide="tasks/{task}/loss.py: tensors created on the device of the outputs",
    copy="tasks/attributes/loss.py",
)
def test_losses_on_a_gpu_are_those_of_a_cpu(tiny_task: TinyTask) -> None:
    task = tiny_task()
    model, batch = task.build_model().train(), training_batch(task, 8)
    on_cpu = compute_losses(task, copy.deepcopy(model), batch)
    on_gpu = compute_losses(task, model.cuda(), batch.to(torch.device("cuda")))
    for name, loss in on_cpu.items():
        assert on_gpu[name].item() == pytest.approx(loss.item(), rel=1e-3)


# --- evaluation and prediction


@requirement(
    "perfect predictions have the best score, 1, whatever the batches",
    provide="tasks/{task}/metric.py; tests/tasks/conftest.py: as_prediction, if truth and predictions differ in fields",
    copy="tasks/attributes/metric.py: AttributesMetric",
)
def test_truth_fed_back_scores_perfectly(tiny_task: TinyTask) -> None:
    task = tiny_task()
    batch = plain_batch(task, 8)
    metric = task.metric()
    predicted = as_prediction(batch.truth)
    metric.update(predicted[:3], batch.truth[:3])
    metric.update(predicted[3:], batch.truth[3:])
    scores = metric.compute()
    assert task.score_name in scores, f"score_name is {task.score_name}, the scores are {list(scores)}"
    assert scores[task.score_name] == pytest.approx(1)


@requirement(
    "the score does not depend on the batch size",
    provide="tasks/{task}/metric.py: sums or stored values in update, the division in compute",
    copy="tasks/attributes/metric.py: AttributesMetric",
)
def test_evaluation_does_not_depend_on_batch_size(tiny_task: TinyTask) -> None:
    task = tiny_task()
    model = task.build_model()
    source = task.source("val")
    scores = [evaluate(task, model, evaluation_loader(task, source, n)).scores[task.score_name] for n in (3, 8)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


@requirement(
    "a prediction is drawn on a copy of the image, and described as JSON",
    provide="tasks/{task}/draw.py; tasks/{task}/task.py: {Task}Task.draw and {Task}Task.describe",
    copy="tasks/attributes/draw.py, tasks/attributes/task.py: AttributesTask.describe",
)
def test_draws_and_describes_without_touching_the_image(tiny_task: TinyTask) -> None:
    task = tiny_task()
    example = task.source("val")[0]
    before = copy.deepcopy(example.image)
    (predicted,) = predict_batch(task, task.build_model(), plain_batch(task, 1).images)
    drawn = task.draw(example.image, predicted, example.truth)
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
    np.testing.assert_array_equal(example.image, before)
    json.dumps(task.describe(predicted, example.image.shape[:2]))


# --- checkpoints and export


@requirement(
    "a model is built with the metadata in `metadata_keys` alone, which are looked for in files of models",
    provide="tasks/{task}/inference.py: {Task}Inference.metadata_keys",
    copy="tasks/attributes/inference.py: AttributesInference.metadata_keys",
)
def test_metadata_keys_are_all_that_a_model_needs(tiny_task: TinyTask) -> None:
    task = tiny_task()
    check_metadata(task.name, task.metadata, "a model")
    needed = {key: task.metadata[key] for key in task.metadata_keys}
    assert type(task)(task.config, needed).build_model() is not None


@requirement(
    "metadata is plain JSON: strings, numbers, lists and dicts with string keys",
    provide="tasks/{task}/task.py: {Task}Task.from_data, what it passes as `metadata`",
    copy="tasks/attributes/task.py: AttributesTask.from_data",
)
def test_metadata_is_plain_json(tiny_task: TinyTask) -> None:
    metadata = dict(tiny_task().metadata)
    assert json.loads(json.dumps(metadata)) == metadata


@requirement(
    "the network is rebuilt from settings and metadata alone, and gives the same outputs with the saved weights",
    provide="tasks/{task}/task.py: {Task}Task.build_model, using only self.config and self.metadata",
    copy="tasks/attributes/task.py: AttributesTask.build_model",
)
def test_checkpoint_round_trip_is_bit_equal(tiny_task: TinyTask, tmp_path: Path) -> None:
    task = tiny_task()
    model = task.build_model()
    save_best(tmp_path, {"task": task.name, "metadata": dict(task.metadata), "model": model.state_dict()})
    content = load_checkpoint(tmp_path / "best.pt", task.name)
    restored = type(task)(task.config, content["metadata"]).build_model()
    restored.load_state_dict(content["model"])
    batch = plain_batch(task)
    expected, actual = (network.eval()(batch.images) for network in (model, restored))
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


def without_a_label(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Without the last name, or the finest cells."""
    return {key: value[:-1] if isinstance(value, list) else value for key, value in metadata.items()}


@requirement(
    "a label map without one of the network's labels is found when a run is opened, and where another starts from it",
    provide="tasks/{task}/task.py: {Task}Task.build_model, using only self.config and self.metadata; "
    "tasks/{task}/transfer.py, which calls `TaskWeights.check_rows`",
    copy="tasks/attributes/transfer.py: load_head",
)
def test_a_label_map_without_a_label_is_refused(tiny_task: TinyTask, tmp_path: Path) -> None:
    task = tiny_task()
    metadata = without_a_label(task.metadata)
    save_best(tmp_path, {"task": task.name, "metadata": metadata, "model": task.build_model().state_dict()})
    write_settings(dataclasses.asdict(task.config), tmp_path)
    with pytest.raises(ValueError, match=r"^[^\n]*best\.pt: does not fit .* label map: [^\n]*; give those .* again$"):
        open_run(tmp_path, type(task), type(task.config))
    if {"class_names", "attribute_names"} & metadata.keys():
        following = task.with_settings(replace_settings(task.config, {"pretrained": str(tmp_path)}))
        with pytest.raises(ValueError, match=r"its label map does not fit its network: expected \d+ rows of .*; train"):
            following.build_model()


@requirement(
    "an exported network gives the same outputs, and with its postprocessing inside the same predictions",
    provide="tasks/{task}/model.py: a forward pass without control flow that depends on values; tasks/{task}/task.py: "
    "postprocessing; tasks/{task}/inference.py: read_outputs, predictor_settings, label_sizes",
    copy="tasks/common/model/logits.py: LogitsModel; tasks/attributes",
)
def test_exported_network_gives_the_same(tiny_task: TinyTask, tmp_path: Path) -> None:
    task = tiny_task()
    network = task.build_model()
    images = plain_batch(task).images
    with torch.no_grad():
        network.backbone.train()(images)  # so that batch normalisation is not the identity
    path = tmp_path / "model.onnx"
    write_onnx(network, 96, path, task.name, task.metadata)
    exported = ExportedNetwork(ExportedModel(path))
    assert_labels_are_checked(task, exported.model)
    assert (exported.model.task, exported.model.input_size, exported.model.metadata) == (task.name, 96, task.metadata)
    for batch_size in (1, 3):
        expected, actual = network.eval()(images[:batch_size]), exported(images[:batch_size])
        assert actual._fields == expected._fields
        for name, value in expected._asdict().items():
            if name != "prototypes":
                torch.testing.assert_close(getattr(actual, name), value, atol=1e-4, rtol=1e-4)
        assert len(task.decode(actual)) == batch_size

    task.threshold = 0.0  # of a detector, whose untrained scores are low
    add_postprocessing(path, task.postprocessing(network), task)
    model = ExportedModel(path)
    assert_labels_are_checked(task, model)
    inference: Any = inference_class(task.name)(task.config, model.metadata)
    pixels = list(images[:3].permute(0, 2, 3, 1).numpy())
    predicted = predict_batch(task, network.eval(), images[:3])
    for expected, actual in zip(*map(untied, (predicted, inference.read_outputs(model(pixels)))), strict=True):
        for name, value in vars(expected).items():
            if isinstance(value, np.ndarray | float):
                np.testing.assert_allclose(getattr(actual, name), value, atol=1e-3, rtol=1e-4)
            else:
                assert getattr(actual, name) == value
    inference.threshold = 0.0
    photo = np.random.default_rng(0).integers(0, 256, (150, 220, 3), np.uint8)
    of_photo = Model(inference, ExportedPredictor(inference, model))(photo)
    result, found = of_photo.to_dict(), predictor.load(tmp_path)(photo)
    if "class_ids" in found:  # of pixels
        np.testing.assert_array_equal(found.pop("class_ids"), of_photo.predictions[0].class_ids)
    assert all(found.values())
    assert_same_record({key: value for key, value in result.items() if key in found}, found)


def assert_labels_are_checked(task: Any, model: ExportedModel) -> None:
    model.check_labels(task)
    if task.name != "embedding":  # whose outputs have no labels
        with pytest.raises(
            ValueError, match=r"model\.onnx: its label map does not fit .*: expected \d+ .*, found \d+; "
        ):
            model.check_labels(type(task)(task.config, without_a_label(task.metadata)))


def untied(predictions: list[Any]) -> list[Any]:
    """Detections in an order that does not depend on which of two scores that are nearly the same is higher."""
    return [
        one.select(np.lexsort([*one.boxes_xyxy.round(1).T, one.class_ids])) if isinstance(one, Detections) else one
        for one in predictions
    ]


def assert_same_record(expected: Any, actual: Any, *, is_box: bool = False) -> None:
    """The same but for rounding, and for what the predictor's record leaves out."""
    if isinstance(actual, dict):
        for key, value in actual.items():
            assert_same_record(expected[key], value, is_box=key.endswith("box_xyxy"))
    elif isinstance(actual, list):
        assert len(actual) == len(expected)
        for one, other in zip(expected, actual, strict=True):
            assert_same_record(one, other, is_box=is_box)
    elif isinstance(actual, float):
        assert abs(expected - actual) <= (0.051 if is_box or abs(actual) > 1 else 6e-5)
    else:
        assert actual == expected


@requirement(
    "the network can be built without data, with a given number of classes",
    provide="tasks/{task}/task.py: {Task}Task.with_num_classes",
    copy="tasks/attributes/task.py: AttributesTask.with_num_classes",
)
def test_model_without_data_has_the_given_number_of_outputs(tiny_task: TinyTask) -> None:
    task = tiny_task()
    few, many = (
        sum(p.numel() for p in type(task).with_num_classes(task.config, num_classes).build_model().parameters())
        for num_classes in (2, 20)
    )
    assert few < many, f"{few} parameters for 2 classes, {many} for 20"
