"""`predict`: say, draw and write what a network sees in the user's images and videos."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from datasets.files import only_process
from datasets.words import plural
from tasks.common.cli.parser import Arguments
from tasks.common.prediction.files import PredictionFiles, check_formats, is_unfinished
from tasks.common.prediction.find import find_sources
from tasks.common.prediction.model import Model
from tasks.common.prediction.open import load_model
from tasks.common.prediction.pipeline import predict_sources
from tasks.common.prediction.result import Result
from tasks.common.prediction.sources import Live
from tasks.common.runs.folder import check_out_folder, check_writable, explain_full_disk, out_folder
from tasks.common.runtime.signals import INTERRUPTED, stop_signals
from tasks.common.settings import flatten

MAX_LISTED = 20  # files that were left out


def predict(name: str, arguments: Arguments) -> int:
    """Predict on images and videos, all or those that an interrupted command has left."""
    options = arguments.options
    sources = find_sources(options["inputs"])
    is_live = isinstance(sources[0], Live)
    unfinished = Path(options["out"]) if options["out"] and is_unfinished(Path(options["out"])) else None
    if unfinished is None or is_live:  # what a camera has seen cannot be seen again
        unfinished = None
        check_out_folder(name, out=options["out"], run=options["run"])
    else:
        check_writable(unfinished, "--out")
    model = load_model(name, arguments.config, options["run"], arguments.given)
    check_formats(options["save"], model.task)
    folder = unfinished or out_folder(model.task, "predict", out=options["out"], run=options["run"])
    this_folder = f"--out {quote(str(folder))}"
    go_on = f"run the command again with {this_folder}, which keeps what is done, or with --out on another disk"
    digest = _digest(model)
    with (
        explain_full_disk(folder, lambda: go_on),
        only_process(folder, "--out"),
        PredictionFiles(folder, digest, options["save"]) as files,
    ):
        if files.num_images:
            print(f"going on after {plural(files.num_images, 'image')} in {folder}", file=sys.stderr)
        with stop_signals() as received:
            line = _record_of if options["json"] else _line_of
            report = predict_sources(model, sources, files, line=line, stop=received)
    _print_left_out("could not be read", report.unreadable)
    _print_left_out("without a prediction", report.refused)
    num_images = plural(report.num_images, "image")
    if report.is_interrupted:
        print(
            f"interrupted: predictions for {num_images} are in {folder}; the same command with {this_folder} goes on",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(f"wrote predictions for {num_images} to {folder}", file=sys.stderr)
    return 0


def _line_of(result: Result[Any]) -> str:
    frame = "" if result.source.frame is None else f", frame {result.source.frame:,}"
    return f"{result.source.name}{frame}: {result}"


def _record_of(result: Result[Any]) -> str:
    return json.dumps(result.to_dict())


def _print_left_out(what: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"warning: {plural(len(lines), 'image')} {what}:", file=sys.stderr)
        for line in lines[:MAX_LISTED]:
            print(f"  {line}", file=sys.stderr)
        if len(lines) > MAX_LISTED:
            print(f"  and {len(lines) - MAX_LISTED} more", file=sys.stderr)


def _digest(model: Model[Any]) -> str:
    """A digest of all that predictions depend on besides the image."""
    config = model.task.config
    settings = flatten(dataclasses.asdict(config))
    acting = {key: value for key, value in settings.items() if config.acts_in(key, "predict", has_run=True)}
    return model.predictor.digest(acting)[:32]
