"""`predict`: draw and write predictions for the user's images and videos."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from torch import nn

from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.features import hash_network
from tasks.common.evaluation.predict import find_files, predict_files
from tasks.common.evaluation.prediction_files import PredictionFiles, is_unfinished
from tasks.common.runs.folder import check_out_folder, check_writable, explain_full_disk, out_folder
from tasks.common.runs.load import load_model
from tasks.common.runtime.signals import INTERRUPTED, stop_signals
from tasks.common.settings import flatten
from tasks.common.task import Task

MAX_LISTED = 20  # files that were left out


def predict(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Draw and write predictions for images and videos, all or those that an interrupted command has left."""
    options = arguments.options
    paths = find_files(options["inputs"])
    unfinished = Path(options["out"]) if options["out"] and is_unfinished(Path(options["out"])) else None
    if unfinished is None:
        check_out_folder(task_class.name, out=options["out"], run=options["run"])
    else:
        check_writable(unfinished, "--out")
    task, model = load_model(task_class, arguments.config, options["run"], arguments.given)
    folder = unfinished or out_folder(task, "predict", out=options["out"], run=options["run"])
    this_folder = f"--out {quote(str(folder))}"
    go_on = f"run the command again with {this_folder}, which keeps what is done, or with --out on another disk"
    with explain_full_disk(folder, lambda: go_on), PredictionFiles(folder, _digest(task, model)) as files:
        if files.num_images:
            print(f"going on after {_count(files.num_images)} in {folder}", file=sys.stderr)
        with stop_signals() as received:
            report = predict_files(task, model, paths, files, received)
    _print_left_out("could not be read", report.unreadable)
    _print_left_out("without a prediction", report.refused)
    if report.is_interrupted:
        print(
            f"interrupted: predictions for {_count(report.num_images)} are in {folder}; "
            f"the same command with {this_folder} goes on",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(f"wrote predictions for {_count(report.num_images)} to {folder}", file=sys.stderr)
    return 0


def _count(num_images: int) -> str:
    return f"{num_images} image{'' if num_images == 1 else 's'}"


def _print_left_out(what: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"warning: {_count(len(lines))} {what}:", file=sys.stderr)
        for line in lines[:MAX_LISTED]:
            print(f"  {line}", file=sys.stderr)
        if len(lines) > MAX_LISTED:
            print(f"  and {len(lines) - MAX_LISTED} more", file=sys.stderr)


def _digest(task: Task[Any], model: nn.Module) -> str:
    """A digest of all that predictions depend on besides the image."""
    settings = flatten(dataclasses.asdict(task.config))
    acting = {key: value for key, value in settings.items() if task.config.acts_in(key, "predict", has_run=True)}
    return hash_network(model, acting).hexdigest()[:32]
