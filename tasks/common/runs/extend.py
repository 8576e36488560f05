"""Training a finished run further: a new run that starts from all weights of an earlier one."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from backbone.build import default_conventions
from tasks.common.runs.checkpoint import BEST, load_checkpoint
from tasks.common.runtime.distributed import World
from tasks.common.settings import CONFIG, read_config
from tasks.common.task import Task

AnyTask = TypeVar("AnyTask", bound=Task[Any])
LABELS = ("class_names", "attribute_names", "identities", "partitionings")  # metadata with an output for each entry


def extend_run(task: AnyTask, run: Path, world: World) -> tuple[AnyTask, Mapping[str, Tensor]]:
    """The task with the run's conventions, and the weights of its best checkpoint, of the whole network.

    The optimiser starts anew, with the whole schedule over the epochs of the new run (a warm restart: Loshchilov and
    Hutter 2017, arXiv:1608.03983); the settings are the run's, apart from those that the user has changed.

    Args:
        task: for the data.
        run: the folder of the earlier run.
        world: its first process prints a line.

    Raises:
        ValueError: if the run has other classes than the data, or cannot be read.
    """
    content = load_checkpoint(run / BEST, task.name)
    backbone = read_config(type(task.config), run / CONFIG).backbone
    if task.config.backbone != backbone:
        raise ValueError(
            f"backbone: --extend keeps the backbone of {run}, {backbone.name}; for another start a new run"
        )
    for key in LABELS:
        if content["metadata"].get(key) != task.metadata.get(key):
            raise ValueError(
                f"--extend: the {key} of {run} are not those of the data; --backbone.pretrained {run} starts a run "
                "with those of the data from its weights"
            )
    if world.is_main:
        optim = task.config.optim
        end = {"cosine": "falls to 0", "exponential": "falls by 6 % every 2 epochs", "constant": "stays there"}
        facts = {"epoch": content.get("epoch"), task.score_name: content["metrics"].get(task.score_name)}
        known = ", ".join(f"{name} {value:.4g}" for name, value in facts.items() if value is not None)
        print(
            f"training {run} further, from all weights of its best checkpoint ({known}), for "
            f"{optim.epochs} epochs: the optimiser starts anew, the learning rate rises to {optim.lr:g} in "
            f"{min(optim.warmup_epochs, optim.epochs):g} epochs and {end[optim.schedule]} (optim.lr, "
            "optim.warmup_epochs, optim.schedule)",
            file=sys.stderr,
        )
    conventions = backbone.conventions or default_conventions(backbone.name)
    start = dataclasses.replace(backbone, pretrained=str(run), conventions=conventions)
    return task.with_backbone(start), content["model"]
