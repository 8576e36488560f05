"""Trainings that are done once: what is finished is taken, what was interrupted goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from torch import nn

from datasets.files import cache_dir
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import METRICS
from tasks.common.runtime.distributed import World
from tasks.common.runtime.repository import ROOT
from tasks.common.settings import read_config
from tasks.common.task import Objective, Task
from tasks.common.training.fit import fit


def fit_once(task: Task[Any], run: Path, world: World, objective: Objective | None = None) -> None:
    """Train into a folder that exists, unless that is done; see `fit`.

    Raises:
        ValueError: as `fit`.
        InterruptedRunError: as `fit`; the next call goes on.
    """
    if world.share((run / METRICS).is_file()):
        return
    fit(task, run, objective=objective, resume=world.share(checkpoint.exists(run)), world=world)


def train_first(
    task_class: type[Task[Any]], student: Task[Any], name: str, world: World
) -> tuple[Task[Any], nn.Module, str]:
    """A teacher trained on the student's labelled data by `configs/distill/<name>_teacher.yaml`, and kept in the cache.

    Returns:
        Its task, its best model, and in words where it comes from.
    """
    recipe = ROOT / "configs" / "distill" / f"{name}_teacher.yaml"
    config = read_config(type(student.config), recipe)
    mine = student.config
    task = task_class.from_data(
        dataclasses.replace(
            config,
            data=dataclasses.replace(mine.data, input_size=max(config.data.input_size, mine.data.input_size)),
            loop=dataclasses.replace(config.loop, device=mine.loop.device, num_workers=mine.loop.num_workers),
        )
    )
    data = "the sample" if mine.data.root is None else str(mine.data.root)
    run = cache_dir() / "teachers" / f"{name}-{_digest(task)}"
    if world.is_main and not (run / METRICS).is_file():
        print(f"there is no teacher yet: training one on {data} first; it is kept in {run}", file=sys.stderr)
    run.mkdir(parents=True, exist_ok=True)
    fit_once(task, run, world)
    if world.is_main:
        for file_name in (checkpoint.LAST, checkpoint.PREVIOUS):  # eight times as large as what will teach
            (run / file_name).unlink(missing_ok=True)
    model = task.build_model()
    model.load_state_dict(checkpoint.load_checkpoint(run / checkpoint.BEST, task.name)["model"])
    return task, model, f"trained on {data} first"


def _digest(task: Task[Any]) -> str:
    """Of the settings that have an effect, and of the images' names."""
    settings = dataclasses.asdict(task.config) | {"loop": task.config.loop.precision}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    source = task.source("train")
    for row in range(len(source)):
        digest.update(source.id(row).encode())
    return digest.hexdigest()[:16]
