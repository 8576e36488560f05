"""`train`: start or resume a run."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.evaluate import warn_about_data
from tasks.common.evaluation.report import print_metrics
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import CURVES, PICTURE, check_unchanged, find_restarted_run, new_run
from tasks.common.runs.pretrained import with_conventions, with_conventions_of, without_pretrained
from tasks.common.runtime.device import uses_cuda
from tasks.common.runtime.distributed import World, join_world
from tasks.common.settings import CONFIG
from tasks.common.task import Task
from tasks.common.training.fit import InterruptedRunError, fit
from tasks.common.training.linear_probe import fit_linear_probe

INTERRUPTED = 130  # exit status, as in a shell after Ctrl-C


def train(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Train into a new run folder, or resume one; under `torchrun`, with all its processes."""
    with join_world(on_gpu=uses_cuda(arguments.config.loop)) as world:
        return _train(task_class, arguments, world)


def _train(task_class: type[Task[Any]], arguments: Arguments, world: World) -> int:
    config, options = arguments.config, arguments.options
    run, resume = world.broadcast(_run_to_resume(task_class.name, options) if world.is_main else (None, False))
    if resume:
        assert run is not None
        config = with_conventions_of(config, run)
        check_unchanged(dataclasses.asdict(config), run / CONFIG)
        config = without_pretrained(config)  # the weights are in the checkpoint
    else:
        config = with_conventions(config, world)
    is_linear_probe = config.optim.layers == "linear_probe"
    if is_linear_probe and (resume or world.size > 1):
        raise ValueError(
            "optim.layers: linear_probe is fitted in one go by one process; there is nothing to resume or distribute"
        )
    task = task_class.from_data(config)
    if world.is_main:
        warn_about_data(task.source("train"))
        warn_about_data(task.source("val"))
    if not resume:
        run = world.broadcast(new_run(task, options["run_dir"], restarted=run) if world.is_main else Path())
    assert run is not None
    if world.is_main:
        if not resume and config.backbone.pretrained == "none" and config.data.root is not None:
            print("starting from random weights; --backbone.pretrained keras starts from ImageNet's", file=sys.stderr)
        print(f"{config.backbone.name}, {_images(task)}, run folder {run}", file=sys.stderr)
    try:
        metrics = fit_linear_probe(task, run) if is_linear_probe else fit(task, run, resume=resume, world=world)
    except InterruptedRunError as stop:
        if world.is_main:
            print(f"{stop}; continue with: python -m tasks.{task.name} train --resume {run}", file=sys.stderr)
        return INTERRUPTED
    if world.is_main:
        print_metrics(metrics, f"best checkpoint, {_images(task)}")
        print(f"look at {run / PICTURE}{'' if is_linear_probe else f' and {run / CURVES}'}", file=sys.stderr)
        print(f"details: python -m tasks.{task.name} evaluate --run {run}", file=sys.stderr)
    return 0


def _run_to_resume(name: str, options: dict[str, Any]) -> tuple[Path | None, bool]:
    """The existing run folder, if any, and whether it has a checkpoint to resume from."""
    if options["resume"]:
        return Path(options["resume"]), True
    run = find_restarted_run(name, options["run_dir"])
    return run, run is not None and (run / CONFIG).is_file() and checkpoint.exists(run)


def _images(task: Task[Any]) -> str:
    data = task.config.data
    return f"{data.root or 'the generated sample'} at {data.input_size} px"
