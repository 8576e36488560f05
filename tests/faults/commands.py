"""The commands that faults are tried on: small, with what is promised of each after a fault, and how to go on.

A trial is a copy of a folder that has data and runs; all files of the command are in it, under `out`.
"""

from __future__ import annotations

import csv
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.common.runs import checkpoint
from tasks.common.runs.load import identify_run
from tasks.embedding.gallery import Gallery
from tests.faults.processes import Words, run_here
from tests.tasks.common.runs import end_of_run

_TRAINING = ("--optim.epochs", "2", "--optim.batch_size", "8", "--loop.checkpoint_minutes", "0")
_NETWORK = ("--backbone.name", "mobilenet_0.25", "--data.input_size", "32")
NO_WORKER = ("--loop.num_workers", "0")
OUT = "out"


@dataclass(frozen=True)
class Command:
    """What is tried.

    Attributes:
        start: the command.
        resume: what goes on after a fault, if the start has left something to go on with.
        can_resume: whether it has, in the folder of a trial.
        kept: raises an error if what is promised at any moment is not so.
        end: of a finished command, equal for those that have done the same.
    """

    start: Words
    resume: Words
    can_resume: Callable[[Path], bool]
    kept: Callable[[Path], object]
    end: Callable[[Path], Any]

    def way_on(self, folder: Path) -> Words:
        """The command that goes on; a folder without anything to go on with is removed, as a user does."""
        if self.can_resume(folder):
            return self.resume
        shutil.rmtree(folder / OUT, ignore_errors=True)
        return self.start


def _all_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _checkpoints_are_intact(run: Path) -> None:
    """The newest checkpoint, or the one before, can be read; the best one too, if there is one."""
    if checkpoint.exists(run):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # last.pt is missing for a moment while it is replaced
            checkpoint.load_last(run, "attributes")
    if (run / checkpoint.BEST).exists():
        checkpoint.load_checkpoint(run / checkpoint.BEST)


def _end_of_distillation(folder: Path) -> Any:
    with (folder / "report.csv").open(encoding="utf-8") as file:
        rows = [(row["model"], row["mult_adds"], row["mean_ap"]) for row in csv.DictReader(file)]
    return rows, [end_of_run(folder / name) for name in ("distilled", "baseline")]


def _end_of_sweep(folder: Path) -> Any:
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        rows = [(row["width"], row["input_size"], row["mean_ap"]) for row in csv.DictReader(file)]
    return rows, [end_of_run(run) for run in sorted((folder / "cells").iterdir())]


def _vectors(path: Path) -> dict[str, tuple[float, ...]]:
    """Photo -> its vector, of a gallery."""
    gallery = Gallery.read(path)
    ids = gallery._index.ids.tolist()
    return {
        Path(gallery._rows[id_].path).name: tuple(vector)
        for id_, vector in zip(ids, gallery._index.vectors().tolist(), strict=True)
    }


def _gallery_is_whole(path: Path) -> None:
    if path.exists():
        assert all(np.isclose(np.linalg.norm(vector), 1) for vector in _vectors(path).values())


def _records_are_whole(folder: Path) -> None:
    """All but the last line, of which the end may be missing."""
    path = folder / "predictions.jsonl"
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        assert all(line.endswith(b"}\n") for line in lines[:-1])


def _export_is_whole_or_absent(folder: Path) -> None:
    if folder.exists():
        identify_run(folder)
        assert (folder / "predictor.py").exists()


def _conversion_is_whole_or_absent(folder: Path) -> None:
    assert not folder.exists() or (folder / "data.yaml").exists()


def _initializers(folder: Path) -> Any:
    import onnx

    model = onnx.load(folder / "model.onnx")
    names = sorted(path.name for path in folder.iterdir())
    return names, sorted((tensor.name, tensor.raw_data) for tensor in model.graph.initializer)


def training(task: str, *more: str) -> tuple[str, ...]:
    """The settings of a training."""
    return ("--data.root", f"../data/{task}", *_NETWORK, *_TRAINING, *more)


def _same(words: Words, end: Callable[[Path], Any], kept: Callable[[Path], object], name: str = OUT) -> Command:
    """A command that is given once more to go on."""
    return Command(words, words, lambda _: True, lambda folder: kept(folder / name), lambda folder: end(folder / name))


TEACHERS = {
    task: Words([f"tasks.{task}", "train", *training(task, *NO_WORKER), "--run_dir", f"../{task}-run"])
    for task in ("attributes", "embedding")
}
_SMALL_FILES = {"tasks.embedding.index:PHOTOS_PER_FILE": 8}
_SWEEP = ("--task", "attributes", "--widths", "0.25", "0.1", "--sizes", "32", "--data.root", "../data/attributes")
_PREDICT = Words(
    ["tasks.attributes", "predict", "--run", "../attributes-run", "../data/attributes/img_align_celeba", "--out", OUT]
)

COMMANDS: dict[str, Command] = {
    "train": Command(
        Words(["tasks.attributes", "train", *training("attributes", "--loop.num_workers", "1"), "--run_dir", OUT]),
        Words(["tasks.attributes", "train", "--resume", OUT]),
        lambda folder: checkpoint.exists(folder / OUT),
        lambda folder: _checkpoints_are_intact(folder / OUT),
        lambda folder: end_of_run(folder / OUT),
    ),
    "distill": Command(
        Words(
            [
                *("distill", "--task", "attributes", "--teacher", "../attributes-run", "--views", "2"),
                *("--student", "mobilenet_0.25", *training("attributes", *NO_WORKER), "--run_dir", OUT),
            ]
        ),
        Words(["distill", "--resume", OUT]),
        lambda folder: (folder / OUT / "config.yaml").exists(),
        lambda folder: [_checkpoints_are_intact(folder / OUT / name) for name in ("distilled", "baseline")],
        lambda folder: _end_of_distillation(folder / OUT),
    ),
    "sweep": _same(
        Words(
            ["results", "sweep", *_SWEEP, *_TRAINING, *NO_WORKER, "--out", OUT],
            {"results.study:run_command": run_here},
        ),
        _end_of_sweep,
        lambda folder: [_checkpoints_are_intact(run) for run in folder.glob("cells/*")],
    ),
    "index": _same(
        Words(
            [
                *("tasks.embedding", "index", "--run", "../embedding-run", *NO_WORKER),
                *("../data/embedding/train", "--out", f"{OUT}/g.faiss"),
            ],
            _SMALL_FILES,
        ),
        lambda folder: _vectors(folder / "g.faiss"),
        lambda folder: _gallery_is_whole(folder / "g.faiss"),
    ),
    "predict": Command(
        _PREDICT,
        _PREDICT,
        lambda folder: (folder / OUT / "unfinished.json").exists(),
        lambda folder: _records_are_whole(folder / OUT),
        lambda folder: _all_files(folder / OUT),
    ),
    "export": _same(
        Words(["tasks.attributes", "export", "--run", "../attributes-run", *NO_WORKER, "--out", OUT]),
        _initializers,
        _export_is_whole_or_absent,
    ),
    "convert": _same(
        Words(["datasets", "convert", "../data/detection", "--to", "yolo", "--copy", "--out", OUT]),
        _all_files,
        _conversion_is_whole_or_absent,
    ),
}
