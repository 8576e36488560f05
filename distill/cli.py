"""The command line of a distillation: the settings of the student's task and those of `DistillConfig`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from distill.config import DistillConfig
from distill.names import TEACHERS, parse_teacher
from tasks.common.cli.commands import Command, add_run_dir
from tasks.common.cli.help import format_examples, format_usage
from tasks.common.cli.main import SAMPLE_CONFIG, exit_status
from tasks.common.cli.parser import parse_arguments
from tasks.common.runtime.repository import ROOT
from tasks.common.settings import CONFIG, load_yaml
from tasks.registry import TASKS, config_class

NAME = "distill"
DEFAULT_TEACHER = "facenet"


def main(words: Sequence[str]) -> int:
    """Distil, and compare teacher, student and baseline.

    Args:
        words: the arguments after `python -m distill`.

    Returns:
        The exit status, as for `tasks.common.cli.main`.
    """
    if not words:
        print(f"{format_usage(NAME, NAME, COMMAND)}\n\n{format_examples(NAME, COMMAND)}", file=sys.stderr)
        sys.exit(2)

    def run() -> int:
        try:
            task = _task_of(words)
        except (ValueError, OSError) as error:
            print(f"error: {error}; --help lists the settings", file=sys.stderr)
            sys.exit(2)
        samples = (ROOT / "configs" / NAME / f"{task}_sample.yaml", ROOT / "configs" / task / SAMPLE_CONFIG)
        sample_config = next(path for path in samples if path.is_file())
        parsed = parse_arguments(NAME, config_class(task), sample_config, [NAME, *words], {NAME: COMMAND})

        from distill.commands import distill  # only now: torch takes seconds to import

        return distill(task, parsed)

    return exit_status(run)


def _add_flags(parser: ArgumentParser) -> None:
    teachers = "; ".join(f"{kind.spelling}: {kind.help}" for kind in TEACHERS.values())
    parser.add_argument("--teacher", nargs="+", type=str, default=[DEFAULT_TEACHER], help=f"one or more. {teachers}")
    parser.add_argument("--student", type=str | None, help="backbone name, for example mobilenet_0.5 (backbone.name)")
    parser.add_argument("--task", type=str | None, help="task of an .onnx teacher: " + ", ".join(TASKS))
    parser.add_argument("--unlabelled", nargs="*", type=str, default=[], help="images, folders, globs to train on")
    parser.add_class_arguments(DistillConfig, skip={"teacher", "unlabelled"})
    add_run_dir(parser)
    parser.add_argument("--resume", type=str | None, metavar="RUN", help="resume an interrupted distillation")


COMMAND = Command(
    "Distil a larger network into a MobileNet, and compare both with the same student trained without a teacher. "
    "Without --config and --data.root all are trained on the generated sample, by configs/distill/<task>_sample.yaml.",
    (
        "python -m distill --teacher facenet --student mobilenet_0.5",
        "python -m distill --teacher attributes --student mobilenet_0.25 --optim.epochs 2",
    ),
    "distill.commands",
    _add_flags,
    usage=" [--teacher TEACHER ...] [--student NAME] [--unlabelled FOLDER ...]",
    uses_sample=True,
)


def _task_of(words: Sequence[str]) -> str:
    """The name of the student's task: the one given, or the teacher's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--teacher", nargs="+")
    for flag in ("--task", "--resume"):
        parser.add_argument(flag)
    parser.add_argument("--config", action="append", default=[])
    try:
        given, _ = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    files = [*([f"{given.resume}/{CONFIG}"] if given.resume else []), *given.config]
    settings: dict[str, Any] = {}
    for file in files:
        if Path(file).is_file():  # else the parser reports it
            settings |= load_yaml(Path(file))
    if given.resume and settings and "teacher" not in settings:
        raise ValueError(f"--resume: {given.resume} is not a distillation; resume it with its task's train")
    task = given.task or settings.get("task")
    if task is not None and task not in TASKS:
        raise ValueError(f"--task: expected one of {', '.join(TASKS)}, got {task!r}")
    kind, spec = parse_teacher((given.teacher or settings.get("teacher") or [DEFAULT_TEACHER])[0])
    task = task or TEACHERS[kind].task
    if task is None and kind == "run":
        from tasks.common.runs.load import identify_run  # a run's task is in its checkpoint: torch is needed

        task, _ = identify_run(Path(spec))
    if task is None:
        raise ValueError(f"--task: needed with the teacher {spec}, for example --task embedding")
    return str(task)
