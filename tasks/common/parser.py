"""Words and YAML to typed settings, and a clear line for every mistake in them."""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser, Namespace

from tasks.common.config import TaskConfig

Verb = Literal["train", "evaluate", "predict", "cost"]
CONFIG = "config.yaml"  # in a run folder

_HELP: dict[Verb, tuple[str, str]] = {
    "train": (
        "train, evaluate, and leave a run folder with log, checkpoints, metrics and pictures",
        "example: python -m tasks.{task} train --optim.epochs 10 --run_dir runs/first\n"
        "Without --config and --data.root it trains on the drawn sample (configs/{task}/sample.yaml).",
    ),
    "evaluate": (
        "score a run's best checkpoint on a split",
        "example: python -m tasks.{task} evaluate --run runs/first --json",
    ),
    "predict": (
        "draw predictions for images, folders, globs and videos, and write predictions.jsonl",
        "example: python -m tasks.{task} predict --run runs/first photo.jpg holiday/ 'more/*.png' clip.mp4",
    ),
    "cost": (
        "mult-adds and parameters of the configured model",
        "example: python -m tasks.{task} cost --backbone.name mobilenet_0.5 --json",
    ),
}


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


def parse_arguments(
    task: str, config_class: type[TaskConfig], sample_config: Path, arguments: Sequence[str]
) -> Arguments:
    """Settings and flags from words; exits with status 2 and one line after a mistake.

    The settings of `--run` and `--resume` are those that the run was made with, and `train` without `--config` and
    `--data.root` takes `sample_config`; other flags change them.
    """
    parser = _Parser(prog=f"python -m tasks.{task}", description=f"The {task} task.")
    commands = parser.add_subcommands(dest="verb", metavar="{" + ",".join(_HELP) + "}")
    for verb in _HELP:
        commands.add_subcommand(verb, _verb_parser(task, verb, config_class), help=_HELP[verb][0])
    words = list(arguments)
    first = parser.parse_args(words)
    verb, options = first.verb, first[first.verb]
    base = _base_config(verb, options, sample_config)
    if base is not None:
        if not base.is_file():
            parser.error(f"{base.parent}: not a run folder: it has no {base.name}")
        at = words.index(verb) + 1
        parsed = parser.parse_args([*words[:at], "--config", str(base), *words[at:]])
        options = parsed[verb]
    config = _build(parser, config_class, options)
    fields = {field.name for field in dataclasses.fields(config_class)}
    own = {key: value for key, value in vars(options).items() if key not in fields | {"config"}}
    return Arguments(verb, config, own)


def _base_config(verb: Verb, options: Namespace, sample_config: Path) -> Path | None:
    run = options.get("run") or options.get("resume")
    if run is not None:
        return Path(run) / CONFIG
    if verb == "train" and options.config is None and options.data.root is None:
        return sample_config
    return None


def _verb_parser(task: str, verb: Verb, config_class: type[TaskConfig]) -> _Parser:
    parser = _Parser(description=_HELP[verb][0], epilog=_HELP[verb][1].format(task=task))
    parser.add_argument("--config", action="config", help="YAML file with settings; later flags change them")
    if verb == "train":
        parser.add_argument("--run_dir", type=str | None, help="folder to make (default: runs/<task>/<date and time>)")
        parser.add_argument("--resume", type=str | None, metavar="RUN", help="continue that run exactly")
    if verb in ("evaluate", "predict"):
        parser.add_argument("--run", required=True, type=str, help="run folder made by train")
    if verb == "evaluate":
        parser.add_argument("--split", type=Literal["train", "val"], default="val", help="which images")
    if verb == "predict":
        parser.add_argument("inputs", nargs="+", type=str, help="image, folder, glob or video")
        parser.add_argument("--out", type=str | None, help="folder to make (default: <run>/predict)")
    if verb == "cost":
        parser.add_argument("--num_classes", type=int | None, help="classes without background (default: the paper's)")
    if verb in ("evaluate", "cost"):
        parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_class_arguments(config_class)
    return parser


def _build(parser: _Parser, config_class: type[TaskConfig], options: Namespace) -> TaskConfig:
    """The typed settings; their own checks run here."""
    try:
        return config_class(**{field.name: _plain(field, options) for field in dataclasses.fields(config_class)})
    except ValueError as error:
        parser.error(str(error))


def _plain(field: dataclasses.Field[Any], options: Namespace) -> Any:
    value, default = options[field.name], field.default_factory
    if not isinstance(default, type):
        return value
    if not isinstance(value, Namespace):
        raise ValueError(f"{field.name}: expected a group of settings, got {value!r}")
    return default(**vars(value))


class _Parser(ArgumentParser):
    """Answers a mistake with one line: where, what was expected, and the nearest right name."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the line and exit with status 2."""
        text = " ".join(str(message).split())
        text = re.sub(r"Parser key \"(\S+?)\":", r"\1:", text)
        text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
        unknown = re.search(r"(?:unrecognized arguments: --|option '|Key ')([\w.]+)", text)
        if unknown:
            key = unknown[1]
            near = difflib.get_close_matches(key, self._known_keys(), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            text = f"unknown setting {key}{hint}"
        print(f"error: {text}{self._config_files()} (--help lists all settings)", file=sys.stderr)
        sys.exit(2)

    def _known_keys(self) -> list[str]:
        keys = {action.dest for action in self._actions}
        for action in self._actions:
            for parser in (getattr(action, "_name_parser_map", None) or {}).values():
                keys |= {inner.dest for inner in parser._actions}
        return sorted(keys - {"help", "verb"})

    @staticmethod
    def _config_files() -> str:
        words = sys.argv[1:]
        files = [after for word, after in zip(words, words[1:], strict=False) if word == "--config"]
        files += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
        return f", in {' and '.join(files)} or on the command line" if files else ""
