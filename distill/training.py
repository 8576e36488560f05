"""Trainings inside a distillation: finished ones are skipped, interrupted ones resume."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
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
from tasks.common.training.callback import Callback
from tasks.common.training.fit import fit


def fit_or_resume(
    task: Task[Any], run: Path, world: World, objective: Objective | None = None, callbacks: Sequence[Callback] = ()
) -> None:
    """Train into an existing folder, or resume there, unless the training is finished; see `fit`.

    Raises:
        ValueError: as `fit`.
        InterruptedRunError: as `fit`; the next call resumes.
    """
    if world.broadcast((run / METRICS).is_file()):
        return
    resume = world.broadcast(checkpoint.exists(run))
    fit(task, run, objective=objective, resume=resume, world=world, callbacks=callbacks)


def train_teacher(
    task_class: type[Task[Any]], student: Task[Any], name: str, world: World
) -> tuple[Task[Any], nn.Module, str]:
    """Train a teacher on the student's labelled data by `configs/distill/<name>_teacher.yaml`, and cache it.

    Returns:
        Its task, its best model, and its origin for the title.
    """
    config = read_config(type(student.config), ROOT / "configs" / "distill" / f"{name}_teacher.yaml")
    input_size = max(config.data.input_size, student.config.data.input_size)
    loop = student.config.loop
    task = task_class.from_data(
        dataclasses.replace(
            config,
            data=dataclasses.replace(student.config.data, input_size=input_size),
            loop=dataclasses.replace(config.loop, device=loop.device, num_workers=loop.num_workers),
        )
    )
    data = "the sample" if task.config.data.root is None else str(task.config.data.root)
    run = cache_dir() / "teachers" / f"{name}-{_digest(task)}"
    if world.is_main and not (run / METRICS).is_file():
        print(f"no trained teacher in the cache: training one on {data} first, into {run}", file=sys.stderr)
    run.mkdir(parents=True, exist_ok=True)
    fit_or_resume(task, run, world)
    if world.is_main:
        for file_name in (checkpoint.LAST, checkpoint.PREVIOUS):  # eight times as large as the best model alone
            (run / file_name).unlink(missing_ok=True)
    model = task.build_model()
    model.load_state_dict(checkpoint.load_checkpoint(run / checkpoint.BEST, task.name)["model"])
    return task, model, f"trained on {data}"


def _digest(task: Task[Any]) -> str:
    """A hash of the settings that have an effect, and of the names of the training images."""
    settings = dataclasses.asdict(task.config) | {"loop": task.config.loop.precision}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    source = task.source("train")
    for row in range(len(source)):
        digest.update(source.id(row).encode())
    return digest.hexdigest()[:16]
