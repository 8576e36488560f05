"""Words and YAML to typed settings, and a clear line for every mistake in them."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from tasks.common.cli.commands import COMMANDS, Command
from tasks.common.config import TaskConfig
from tasks.common.legacy import RENAMED_SETTINGS
from tasks.common.settings import CONFIG, ConfigFile, build_settings


@dataclass(frozen=True)
class Arguments:
    """What the user asked for.

    Attributes:
        verb: the command.
        config: the settings.
        options: the command's own flags.
    """

    verb: str
    config: Any
    options: dict[str, Any]


def parse_arguments(
    task: str,
    config_class: type[TaskConfig],
    sample_config: Path,
    words: Sequence[str],
    commands: Mapping[str, Command] = COMMANDS,
) -> Arguments:
    """Settings and flags from words; exits with status 2 and one line after a mistake.

    The settings of `--run` and `--resume` are those that the run was made with, and a verb that knows the sample takes
    `sample_config` where there is neither `--config` nor `--data.root`, or the file beside it that has the model's name
    in front; other flags change them.
    """
    parser = ArgumentParser(prog=f"python -m tasks.{task}", description=f"The {task} task.", exit_on_error=False)
    verbs = parser.add_subcommands(dest="verb", metavar="{" + ",".join(commands) + "}")
    verb_parsers = {verb: _verb_parser(task, verb, command, config_class) for verb, command in commands.items()}
    for verb, verb_parser in verb_parsers.items():
        verbs.add_subcommand(verb, verb_parser, help=commands[verb].help.split(". ")[0].rstrip("."))
    known = {action.dest for verb_parser in verb_parsers.values() for action in verb_parser._actions}
    words = _files_first(_complete_switches(words, config_class))
    try:
        parsed = parser.parse_args(words)
        base = _base_config(commands[parsed.verb], parsed[parsed.verb], sample_config)
        if base is not None:
            at = words.index(parsed.verb) + 1
            parsed = parser.parse_args([*words[:at], "--config", str(base), *words[at:]])
        verb, options = parsed.verb, parsed[parsed.verb]
        config = build_settings(config_class, options)
        if "run" in options and options.run is None and config.backbone.pretrained == "none":
            raise ValueError("--run: expected a run folder, or published weights as --backbone.pretrained")
    except (argparse.ArgumentError, ValueError) as error:
        print(f"error: {_explain(str(error), known)}{_config_files(words)}; --help lists the settings", file=sys.stderr)
        sys.exit(2)
    own = set(vars(options)) - {field.name for field in dataclasses.fields(config_class)} - {"config"}
    return Arguments(verb, config, {key: options[key] for key in own})


def _base_config(command: Command, options: Namespace, sample_config: Path) -> Path | None:
    run = options.get("run") or options.get("resume")
    if run is not None:
        if not (Path(run) / CONFIG).is_file():
            raise ValueError(f"{run}: not a run folder: it has no {CONFIG}")
        return Path(run) / CONFIG
    if command.knows_sample and options.config is None and options.data.root is None:
        of_model = sample_config.with_name(f"{options.get('model')}_{sample_config.name}")
        return of_model if of_model.is_file() else sample_config
    return None


def _verb_parser(task: str, verb: str, command: Command, config_class: type[TaskConfig]) -> ArgumentParser:
    program = f"python -m {task}" if verb == task else f"python -m tasks.{task} {verb}"  # one verb needs no name
    usage = f"{program}{command.usage} [--config FILE] [--setting VALUE ...]"
    description, example = command.help.format(task=task), f"example: {command.example.format(task=task)}"
    parser = ArgumentParser(usage=usage, description=description, epilog=example, exit_on_error=False)
    parser.add_argument("--config", action=ConfigFile, help="YAML file with settings; flags change them")
    command.add_flags(parser)
    parser.add_class_arguments(config_class)
    return parser


def _explain(message: str, known: set[str]) -> str:
    """The library's message as one line, with the nearest right name for one that is not known."""
    text = re.sub(r"Parser key \"(\S+?)\":", r"\1:", " ".join(message.split()))
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
    unknown = re.search(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'", text)
    if unknown is None:
        return text
    key = unknown[1] or unknown[2]
    if key in RENAMED_SETTINGS:
        return f"{key} is now {RENAMED_SETTINGS[key]}"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown setting {key}" + (f"; did you mean {near[0]}?" if near else "")


def _complete_switches(words: Sequence[str], config_class: type[TaskConfig]) -> list[str]:
    """The words with `true` after each setting that is true or false and stands alone, as in `--exact photo.jpg`."""
    switches = {f"--{key}" for key in _switches(config_class)}
    completed: list[str] = []
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        completed += [word, "true"] if word in switches and after not in ("true", "false") else [word]
    return completed


def _switches(config_class: type[Any]) -> Iterator[str]:
    for field in dataclasses.fields(config_class):
        if isinstance(field.default_factory, type):
            yield from (f"{field.name}.{key}" for key in _switches(field.default_factory))
        elif isinstance(field.default, bool):
            yield field.name


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
