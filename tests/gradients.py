"""The gradient of the first step of every training case, in one process and in two under `torchrun`.

torchrun --nproc_per_node 2 -m tests.gradients FILE ROOTS    writes the first process's gradients
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.loader import TrainingBatches, build_loader
from distill.ensemble import TeacherEnsemble
from distill.objectives import build_objective
from distill.task import Distillation
from distill.teacher import Teacher
from tasks.common.evaluation.evaluate import evaluate_source
from tasks.common.evaluation.failure_cases import FailureCases
from tasks.common.runtime.distributed import SINGLE_PROCESS, World, join_world
from tasks.common.task import Objective
from tasks.common.training.freeze import set_trainable
from tasks.common.training.state import TrainingState
from tasks.common.training.step import train_step
from tasks.registry import config_class, task_class
from tests.tasks.conftest import build_config

BATCH_SIZE, INPUT_SIZE = 8, 64
# Cells with too few photos are dropped, so that the processes count different numbers of photos.
CELLS = {"cells": {"max_photos": [6, 2], "min_photos": 2}}
SMALL = {"faster_rcnn": {"num_proposals": 20, "num_sampled": 6}}


def _task(name: str, **settings: Any) -> Callable[[Mapping[str, str]], Objective]:
    def build(roots: Mapping[str, str]) -> Any:
        data = {"root": roots[name], "input_size": INPUT_SIZE} | settings.get("data", {})
        shared = {"backbone": {"name": "mobilenet_0.25"}, "loop": {"num_workers": 0}, "optim": {"batch_size": 8}}
        plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
        groups = {key: value for key, value in settings.items() if isinstance(value, dict) and key != "data"}
        config = build_config(config_class(name), data=data, **(shared | groups))
        return task_class(name).from_data(dataclasses.replace(config, **plain))

    return build


def _distillation(name: str, *, class_loss: Any = "kd", hint_stride: int | None = None, **settings: Any) -> Any:
    def build(roots: Mapping[str, str]) -> Objective:
        task: Any = _task(name, **settings)(roots)
        torch.manual_seed(7)
        model = task.build_model().eval().requires_grad_(False)
        objective = build_objective(task, class_loss=class_loss, temperature=2.0)
        teachers = [Teacher("a", task, model, "")]
        ensemble = TeacherEnsemble(teachers, objective, loop=task.config.loop, hint_stride=hint_stride)
        images = task.source("train")
        return Distillation(task, ensemble, objective, images, alpha=0.3, num_views=None, hint_stride=hint_stride)

    return build


CASES: dict[str, Callable[[Mapping[str, str]], Objective]] = {
    "attributes": _task("attributes"),
    "classification": _task("classification", data={"format": "stanford_dogs"}),
    "ssd": _task("detection"),
    "faster_rcnn": _task("detection", model="faster_rcnn", **SMALL),
    "cosface": _task("embedding"),
    "triplet": _task("embedding", loss="triplet", margin=0.2),
    "geolocation": _task("geolocation", **CELLS),
    "distill attributes": _distillation("attributes"),
    "distill classes": _distillation("classification", data={"format": "stanford_dogs"}, hint_stride=16),
    "distill classes by dist": _distillation("classification", data={"format": "stanford_dogs"}, class_loss="dist"),
    "distill ssd": _distillation("detection", hint_stride=32),
    "distill embeddings": _distillation("embedding"),
    "distill cells": _distillation("geolocation", **CELLS),
}


EVALUATED = {name: build for name, build in CASES.items() if "distill" not in name and name != "triplet"} | {
    "segmentation": _task("segmentation")
}


class GradientRecorder(torch.optim.SGD):
    """Stores the gradients instead of making a step."""

    gradients: list[Tensor]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.gradients = [p.grad.clone() for group in self.param_groups for p in group["params"] if p.grad is not None]


def first_gradient(name: str, roots: Mapping[str, str], world: World = SINGLE_PROCESS) -> tuple[list[Tensor], float]:
    """The gradient and the loss of the first batch of 8, with frozen BN statistics."""
    objective = CASES[name](roots)
    dataset = objective.training_set()
    batches = TrainingBatches(
        len(dataset), BATCH_SIZE, seed=0, order=objective.order(), rank=world.rank, world_size=world.size
    )
    loader = build_loader(dataset, batches, num_workers=0, collate=objective.collate())
    torch.manual_seed(0)
    model = objective.build_model()
    optimizer = GradientRecorder(model.parameters(), lr=1.0)
    set_trainable(model, list(model.parameters()), [], freeze_bn=True)
    state = TrainingState(model, None, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    network, batch = world.wrap(model), next(iter(loader))
    train_step(objective, network, state, [batch], lr=1.0, clip_norm=None, dtype=None, world=world)
    return optimizer.gradients, state.mean_losses(world)["loss"]


def scores(
    name: str, roots: Mapping[str, str], world: World = SINGLE_PROCESS
) -> tuple[dict[str, float], int, list[str]]:
    """The scores of random weights on the validation images, their number, and the failure cases with their images."""
    task: Any = EVALUATED[name](roots)
    torch.manual_seed(0)
    failure_cases, source = FailureCases[Any](task), task.source("val")
    evaluation = evaluate_source(task, task.build_model(), source, name, world=world, failure_cases=failure_cases)
    worst = [f"{source.id(-row)} {case.what}" for _, row, case, _ in sorted(failure_cases._heap, reverse=True)]
    return evaluation.scores, evaluation.num_images, worst


def main(file: str, roots: str) -> None:
    """Write the gradients and losses of all cases, and the scores of those that are tasks."""
    with join_world(on_gpu=False) as world:
        results: dict[str, Any] = {name: first_gradient(name, json.loads(roots), world) for name in CASES}
        results["scores"] = {name: scores(name, json.loads(roots), world) for name in EVALUATED}
        if world.is_main:
            torch.save(results, Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
