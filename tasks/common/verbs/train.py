"""`train`: start a run, resume one, or train one further."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import Any

from datasets.files import only_process
from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.report import print_metrics
from tasks.common.evaluation.scoring import NOT_HELD_OUT, describe_images, inspect_data, validation_source
from tasks.common.runs import checkpoint
from tasks.common.runs.extend import extend_run
from tasks.common.runs.folder import (
    CURVES,
    MIN_FREE_BYTES,
    PICTURE,
    check_run_folder,
    check_unchanged,
    check_writable,
    explain_full_disk,
    find_restarted_run,
    new_run,
    shared_settings,
)
from tasks.common.runs.pretrained import use_pretrained, with_settings_of, without_pretrained
from tasks.common.runtime.device import uses_cuda
from tasks.common.runtime.distributed import World, join_world
from tasks.common.runtime.signals import INTERRUPTED
from tasks.common.settings import CONFIG
from tasks.common.task import Task
from tasks.common.training.backup import Backup, check_place, find_run
from tasks.common.training.callback import Callback
from tasks.common.training.fit import InterruptedRunError, fit
from tasks.common.training.linear_probe import fit_linear_probe
from tasks.common.training.loggers.table import check_loggers
from tasks.common.training.state import size_of_checkpoints


def train(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Train into a new run folder, or resume one; under `torchrun`, with all its processes."""
    try:
        run_training(task_class, arguments)
    except InterruptedRunError as stop:
        if str(stop):
            print(stop, file=sys.stderr)
        return INTERRUPTED
    return 0


def run_training(task_class: type[Task[Any]], arguments: Arguments, callbacks: Sequence[Callback] = ()) -> Path:
    """Train into a new run folder, or resume one; what the verb and `tasks.train` have in common.

    Args:
        task_class: of the task.
        arguments: of the verb.
        callbacks: see `fit`.

    Returns:
        The run folder.

    Raises:
        ValueError: if the settings or the data cannot be used.
        InterruptedRunError: after SIGTERM or Ctrl-C; its message says how to go on, and is empty except on rank 0.
    """
    with join_world(on_gpu=uses_cuda(arguments.config.loop)) as world:
        return _train(task_class, arguments, world, callbacks)


def _train(task_class: type[Task[Any]], arguments: Arguments, world: World, callbacks: Sequence[Callback]) -> Path:
    config, options = arguments.config, arguments.options
    _check_flags(arguments, world)
    run, resume = world.broadcast(_run_to_resume(task_class.name, arguments, world) if world.is_main else (None, False))
    if world.is_main:
        _check_place(task_class.name, options, run)
    if resume:
        assert run is not None
        config = _resumed(config, run, arguments.given)
    # First the data, which are more often at fault than weights, and read in less time.
    task = task_class.from_data(config)
    _check_same(task, world)
    if world.is_main:
        inspect_data(task)
    has_scores = validation_source(task) is not None
    check_settings(task, has_scores=has_scores)
    weights, is_trained = None, False
    if not resume:
        if options["extend"]:
            task, weights = extend_run(task, Path(options["extend"]), world)
            is_trained = True
        else:
            task, is_trained = use_pretrained(task, arguments.given, world)
        if world.is_main:
            run = _make_run(task, options["run_dir"], run)
        run = world.broadcast(run)
    assert run is not None
    if world.is_main:
        _print_start(task, run, is_new=weights is None and not resume)
    backup = None if config.loop.backup is None else Backup(run, config.loop.backup)
    callbacks = [*callbacks, *([] if backup is None else [backup])]
    try:
        alone = only_process(run, "--resume") if world.is_main else nullcontext()
        with explain_full_disk(run, lambda: _way_on(task, run)), alone:
            if config.optim.layers == "linear_probe":
                metrics = fit_linear_probe(task, run, callbacks)
            else:
                metrics = fit(
                    task,
                    run,
                    resume=resume,
                    weights=weights,
                    score_start=is_trained,
                    world=world,
                    callbacks=callbacks,
                )
    except InterruptedRunError as stop:
        way_on = f"{stop}; continue with: {_resume(task, run)}"
        raise InterruptedRunError(way_on if world.is_main else "") from stop
    if world.is_main:
        _print_end(task, run, metrics if has_scores else None)
        if backup is not None:
            backup.finish()
    return run


def _check_same(task: Task[Any], world: World) -> None:
    """Raise a ValueError on every process if one has other settings or other images."""
    if world.size == 1:
        return
    sources = {"training": task.source("train"), "validation": validation_source(task)}
    images = {f"list of {name} images": describe_images(source) for name, source in sources.items() if source}
    world.check_same(shared_settings(dataclasses.asdict(task.config)) | images)


def _run_to_resume(name: str, arguments: Arguments, world: World) -> tuple[Path | None, bool]:
    """The existing run folder, if any, and whether it has a checkpoint to resume from."""
    config, options = arguments.config, arguments.options
    if options["resume"]:
        run: Path | None = Path(options["resume"])
    else:
        run = find_restarted_run(name, options["run_dir"], is_restarted=world.is_restarted)
    if config.loop.backup is not None:
        run = find_run(
            config.loop.backup,
            run,
            options["run_dir"],
            lambda run: dataclasses.asdict(with_settings_of(config, run, arguments.given)),
        )
    has_checkpoint = run is not None and (run / CONFIG).is_file() and checkpoint.exists(run)
    return run, bool(options["resume"]) or has_checkpoint


def _check_flags(arguments: Arguments, world: World) -> None:
    """Raise a ValueError for flags that exclude each other."""
    config, options = arguments.config, arguments.options
    if options["resume"] and options["extend"]:
        raise ValueError("--extend: makes a new run, and --resume continues one; give one of them")
    if options["extend"] and config.loop.backup is not None and "loop.backup" not in arguments.given:
        raise ValueError(
            f"loop.backup: {config.loop.backup} belongs to the old run; give the new one its own --loop.backup, or null"
        )
    is_more = options["resume"] or options["extend"] or config.loop.backup or world.size > 1
    if config.optim.layers == "linear_probe" and is_more:
        raise ValueError(
            "optim.layers: linear_probe is fitted in one go by one process; there is nothing to resume, extend, back "
            "up or distribute"
        )
    check_loggers(config.loop.logger_names)
    if config.loop.backup is not None:
        check_place(config.loop.backup, options)


def _check_place(name: str, options: dict[str, Any], run: Path | None) -> None:
    """Raise a ValueError, before any work, if the run folder cannot be written."""
    if run is not None:
        check_writable(run, "--resume")
    else:
        check_run_folder(name, options["run_dir"])


def _resumed(config: Any, run: Path, given: Collection[str]) -> Any:
    """The settings to resume a run with: its own, apart from those that are given and may change.

    Raises:
        ValueError: if others have changed.
    """
    config = with_settings_of(config, run, given)
    check_unchanged(dataclasses.asdict(config), run / CONFIG)
    return without_pretrained(config)  # the weights are in the checkpoint


def check_settings(task: Task[Any], *, has_scores: bool) -> None:
    """Reject settings that do not suit the data."""
    optim = task.config.optim
    if optim.patience is not None and not has_scores:
        raise ValueError("optim.patience: expected null, since without validation images there is no score to watch")
    if optim.balance:
        task.classes_of([task.source("train").truth(0)])  # raises where a task has no classes


def _make_run(task: Task[Any], run_dir: str | None, restarted: Path | None) -> Path:
    """Make the run folder; it is checked once more, now that the size of the network is known."""
    if restarted is None:
        is_linear_probe = task.config.optim.layers == "linear_probe"
        check_run_folder(task.name, run_dir, MIN_FREE_BYTES if is_linear_probe else size_of_checkpoints(task))
    return new_run(task, run_dir, restarted=restarted)


def _print_start(task: Task[Any], run: Path, *, is_new: bool) -> None:
    config = task.config
    if is_new and config.pretrained == "none" and config.data.root is not None:
        print("starting from random weights; --pretrained keras starts from ImageNet's", file=sys.stderr)
    print(f"{config.backbone.name}, {_images(task)}, run folder {run}", file=sys.stderr)


def _print_end(task: Task[Any], run: Path, metrics: dict[str, float] | None) -> None:
    """Print the scores, if there are any, and where to look."""
    if metrics is None:
        print(f"{NOT_HELD_OUT}; the last weights are kept, and the pictures show training images", file=sys.stderr)
    else:
        print_metrics(metrics, f"best checkpoint, {_images(task)}")
    pictures = [run / PICTURE, run / CURVES]
    print(f"look at {' and '.join(str(path) for path in pictures if path.is_file())}", file=sys.stderr)
    if metrics is not None:
        print(f"details: python -m tasks.{task.name} evaluate --run {quote(str(run))}", file=sys.stderr)


def _resume(task: Task[Any], run: Path) -> str:
    backup = task.config.loop.backup
    flag = "" if backup is None else f" --loop.backup {quote(backup)}"
    return f"python -m tasks.{task.name} train --resume {quote(str(run))}{flag}"


def _way_on(task: Task[Any], run: Path) -> str:
    return f"continue with: {_resume(task, run)}" if checkpoint.exists(run) else "start again with another --run_dir"


def _images(task: Task[Any]) -> str:
    data = task.config.data
    return f"{data.root or 'the generated sample'} at {data.input_size} px"
