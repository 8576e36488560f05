"""`predict`: say, draw and write what a network sees in the user's images and videos."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from shlex import quote
from typing import Any

from datasets.files import only_process
from datasets.words import plural, some
from tasks.common.cli.parser import Arguments
from tasks.common.prediction.files import (
    RECORDS,
    PredictionFiles,
    check_formats,
    is_unfinished,
    join_records,
    origin_of,
)
from tasks.common.prediction.find import find_sources
from tasks.common.prediction.model import Model
from tasks.common.prediction.open import load_model
from tasks.common.prediction.parts import Parts
from tasks.common.prediction.pipeline import LeftOut, predict_sources
from tasks.common.prediction.result import Result
from tasks.common.prediction.source_list import SourceList
from tasks.common.runs.folder import check_out_folder, check_writable, explain_full_disk, out_folder
from tasks.common.runtime.launch import process_rank
from tasks.common.runtime.signals import INTERRUPTED, stop_signals
from tasks.common.settings import flatten


def predict(name: str, arguments: Arguments) -> int:
    """Predict on images and videos, all or those that an interrupted command has left; of several processes, a part."""
    options = arguments.options
    rank, size = process_rank()
    sources = find_sources(options["inputs"])
    parts = None if size == 1 else _share(sources, options, rank, size)
    inputs = None if parts is None else sources.describe()
    if parts is not None and parts.is_complete:
        parts.check({"inputs": inputs})
        return _join(parts, options)
    out = options["out"] if parts is None else str(parts.own)
    unfinished = _check_place(name, out, options["run"], is_live=sources.live is not None)
    model = load_model(name, arguments.config, options["run"], arguments.given)
    check_formats(options["save"], model.task)
    digest = _digest(model)
    if parts is not None:
        parts.check(origin_of(digest, options["save"], inputs))
        sources = sources.part(rank, size)
    folder = unfinished or out_folder(model.task, "predict", out=out, run=options["run"])
    this_folder = f"--out {quote(str(folder) if parts is None else options['out'])}"
    go_on = f"run the command again with {this_folder}, which keeps what is done, or with --out on another disk"
    with (
        explain_full_disk(folder, lambda: go_on),
        only_process(folder, "--out"),
        PredictionFiles(folder, digest, options["save"], inputs=inputs) as files,
    ):
        status = _predict(model, sources, files, this_folder, as_json=options["json"])
    return status if status or parts is None else _join(parts, options)


def _share(sources: SourceList, options: dict[str, Any], rank: int, size: int) -> Parts:
    """The part of this process."""
    if options["out"] is None:
        raise ValueError(f"--out: expected the folder into which the {size} processes (WORLD_SIZE) write their parts")
    if sources.live is not None:
        raise ValueError(f"{sources.live.name}: cannot be shared by {size} processes (WORLD_SIZE); start one")
    return Parts(Path(options["out"]), rank, size)


def _check_place(name: str, out: str | None, run: str | None, *, is_live: bool) -> Path | None:
    """The folder of interrupted predictions to go on in, if any; raises a ValueError if nothing can be written."""
    unfinished = Path(out) if out and is_unfinished(Path(out)) else None
    if unfinished is None or is_live:  # what a camera has seen cannot be seen again
        check_out_folder(name, out=out, run=run)
        return None
    check_writable(unfinished, "--out")
    return unfinished


def _predict(model: Model[Any], sources: SourceList, files: PredictionFiles, this_folder: str, *, as_json: bool) -> int:
    """Predict on the sources that are not in the files yet; returns the exit status."""
    folder = files.folder
    if files.num_images:
        print(f"going on after {plural(files.num_images, 'image')} in {folder}", file=sys.stderr)
    with stop_signals() as received:
        line = _record_of if as_json else _line_of
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


def _join(parts: Parts, options: dict[str, Any]) -> int:
    """Join the parts of all processes if this one is the last to end; returns the exit status."""
    if parts.incomplete:
        print(f"{some(parts.incomplete, 'part')} to come; the last one joins all", file=sys.stderr)
        return 0
    with explain_full_disk(parts.folder, lambda: "run the command again, which keeps what is done"):
        join_records(parts, options["save"])
    print(f"joined the records of all parts in {parts.folder / RECORDS}", file=sys.stderr)
    return 0


def _line_of(result: Result[Any]) -> str:
    frame = "" if result.source.frame is None else f", frame {result.source.frame:,}"
    return f"{result.source.name}{frame}: {result}"


def _record_of(result: Result[Any]) -> str:
    return json.dumps(result.to_dict())


def _print_left_out(what: str, left_out: LeftOut) -> None:
    if left_out.num_images:
        print(f"warning: {plural(left_out.num_images, 'image')} {what}:", file=sys.stderr)
        for reason in left_out.first_reasons:
            print(f"  {reason}", file=sys.stderr)
        if (num_more := left_out.num_images - len(left_out.first_reasons)) > 0:
            print(f"  and {num_more:,} more", file=sys.stderr)


def _digest(model: Model[Any]) -> str:
    """A digest of all that predictions depend on besides the image."""
    config = model.task.config
    settings = flatten(dataclasses.asdict(config))
    acting = {key: value for key, value in settings.items() if config.acts_in(key, "predict", has_run=True)}
    return model.predictor.digest(acting)[:32]
