"""Words and YAML to typed settings, and a clear line for every mistake in them."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from tasks.common.config import TaskConfig

Verb = Literal["train", "evaluate", "predict", "cost"]
CONFIG = "config.yaml"  # in a run folder

_HELP: dict[Verb, tuple[str, str]] = {
    "train": (
        "Train, evaluate, and leave a run folder with log, checkpoints, metrics and pictures. Without --config and "
        "--data.root it trains on the drawn sample, by configs/{task}/sample.yaml.",
        "example: python -m tasks.{task} train --optim.epochs 10 --run_dir runs/first",
    ),
    "evaluate": (
        "Score a run's best checkpoint, or published weights (--backbone.pretrained), on a split",
        "example: python -m tasks.{task} evaluate --run runs/first --json",
    ),
    "predict": (
        "Draw predictions for images, folders, globs and videos, and write predictions.jsonl",
        "example: python -m tasks.{task} predict --run runs/first photo.jpg holiday/ 'more/*.png' clip.mp4",
    ),
    "cost": (
        "Mult-adds and parameters of the configured model",
        "example: python -m tasks.{task} cost --backbone.name mobilenet_0.5 --json",
    ),
}


_REQUIRED: dict[Verb, str] = {"evaluate": " [--run RUN]", "predict": " [--run RUN] INPUT..."}


@dataclass(frozen=True)
class Arguments:
    """What the user asked for.

    Attributes:
        verb: the command.
        config: the settings.
        options: the command's own flags.
    """

    verb: Verb
    config: Any
    options: dict[str, Any]


def parse_arguments(task: str, config_class: type[TaskConfig], sample_config: Path, words: Sequence[str]) -> Arguments:
    """Settings and flags from words; exits with status 2 and one line after a mistake.

    The settings of `--run` and `--resume` are those that the run was made with, and `train` without `--config` and
    `--data.root` takes `sample_config`, or the file beside it that has the model's name in front; other flags change
    them.
    """
    parser = ArgumentParser(prog=f"python -m tasks.{task}", description=f"The {task} task.", exit_on_error=False)
    commands = parser.add_subcommands(dest="verb", metavar="{" + ",".join(_HELP) + "}")
    verb_parsers = {verb: _verb_parser(task, verb, config_class) for verb in _HELP}
    for verb, verb_parser in verb_parsers.items():
        commands.add_subcommand(verb, verb_parser, help=_HELP[verb][0].split(". ")[0].rstrip("."))
    words = _files_first(words)
    try:
        parsed = parser.parse_args(words)
        base = _base_config(parsed.verb, parsed[parsed.verb], sample_config)
        if base is not None:
            at = words.index(parsed.verb) + 1
            parsed = parser.parse_args([*words[:at], "--config", str(base), *words[at:]])
        verb, options = parsed.verb, parsed[parsed.verb]
        config = _build(config_class, options)
        if "run" in options and options.run is None and config.backbone.pretrained == "none":
            raise ValueError("--run: expected a run folder, or published weights as --backbone.pretrained")
    except (argparse.ArgumentError, ValueError) as error:
        known = {action.dest for verb_parser in verb_parsers.values() for action in verb_parser._actions}
        print(f"error: {_explain(str(error), known)}{_config_files(words)}; --help lists the settings", file=sys.stderr)
        sys.exit(2)
    own = set(vars(options)) - {field.name for field in dataclasses.fields(config_class)} - {"config"}
    return Arguments(verb, config, {key: options[key] for key in own})


def _base_config(verb: Verb, options: Namespace, sample_config: Path) -> Path | None:
    run = options.get("run") or options.get("resume")
    if run is not None:
        if not (Path(run) / CONFIG).is_file():
            raise ValueError(f"{run}: not a run folder: it has no {CONFIG}")
        return Path(run) / CONFIG
    if verb == "train" and options.config is None and options.data.root is None:
        of_model = sample_config.with_name(f"{options.get('model')}_{sample_config.name}")
        return of_model if of_model.is_file() else sample_config
    return None


def _verb_parser(task: str, verb: Verb, config_class: type[TaskConfig]) -> ArgumentParser:
    usage = f"python -m tasks.{task} {verb}{_REQUIRED.get(verb, '')} [--config FILE] [--setting VALUE ...]"
    description, example = (text.format(task=task) for text in _HELP[verb])
    parser = ArgumentParser(usage=usage, description=description, epilog=example, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with settings; flags change them")
    if verb == "train":
        parser.add_argument("--run_dir", type=str | None, help="folder to make (default: runs/<task>/<date and time>)")
        parser.add_argument("--resume", type=str | None, metavar="RUN", help="continue that run exactly")
    if verb in ("evaluate", "predict"):
        parser.add_argument("--run", type=str | None, help="run folder made by train; without it, published weights")
        parser.add_argument("--out", type=str | None, help=f"folder to make (default: <run>/{verb})")
    if verb == "evaluate":
        parser.add_argument("--split", type=Literal["train", "val"], default="val", help="which images")
    if verb == "predict":
        parser.add_argument("inputs", nargs="+", type=str, help="image, folder, glob or video")
    if verb == "cost":
        parser.add_argument("--num_classes", type=int | None, help="classes without background (default: the paper's)")
    if verb in ("evaluate", "cost"):
        parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_class_arguments(config_class)
    return parser


def _build(config_class: type[TaskConfig], options: Namespace) -> TaskConfig:
    """The typed settings; their own checks run here."""
    values = {}
    for field in dataclasses.fields(config_class):
        value, group = options[field.name], field.default_factory
        if isinstance(group, type):
            if not isinstance(value, Namespace):
                raise ValueError(f"{field.name}: expected a group of settings, got {value!r}")
            value = group(**vars(value))
        values[field.name] = value
    return config_class(**values)


def _explain(message: str, known: set[str]) -> str:
    """The library's message as one line, with the nearest right name for one that is not known."""
    text = re.sub(r"Parser key \"(\S+?)\":", r"\1:", " ".join(message.split()))
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
    unknown = re.search(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'", text)
    if unknown is None:
        return text
    key = unknown[1] or unknown[2]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown setting {key}" + (f"; did you mean {near[0]}?" if near else "")


def _files_first(words: Sequence[str]) -> list[str]:
    """The words with each `--config FILE` moved to the front, since flags change files wherever they stand."""
    files, others = [], []
    arriving = iter(words)
    for word in arriving:
        if word == "--config":
            files += [word, *[file for file in [next(arriving, None)] if file is not None]]
        elif word.startswith("--config="):
            files.append(word)
        else:
            others.append(word)
    return [*others[:1], *files, *others[1:]]


def _config_files(words: Sequence[str]) -> str:
    files = [after for word, after in pairwise(words) if word == "--config"]
    files += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    return f", in {' and '.join(files)} or on the command line" if files else ""
