"""From words and YAML to typed settings, and one clear line for every error in them."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from datasets.files import NOT_LOCAL
from datasets.words import is_url
from tasks.common.cli.commands import COMMANDS, Command
from tasks.common.cli.help import format_help, list_verbs
from tasks.common.config import TaskConfig
from tasks.common.legacy import RENAMED_VERBS, renamed_flag
from tasks.common.settings import CONFIG, ConfigFile, build_settings, config_file, is_none, nullable_settings


@dataclass(frozen=True)
class Arguments:
    """The parsed command line.

    Attributes:
        verb: the command.
        config: the settings.
        options: the command's own flags.
        given: the keys of the settings on the command line; those in files are not among them.
    """

    verb: str
    config: Any
    options: dict[str, Any]
    given: frozenset[str] = frozenset()


def parse_arguments(
    task: str,
    config_class: type[TaskConfig],
    sample_config: Path,
    words: Sequence[str],
    commands: Mapping[str, Command] = COMMANDS,
) -> Arguments:
    """Settings and flags of a command line, see `read_arguments`; prints help and exits where that is asked for.

    Args:
        task: name of the task.
        config_class: its settings.
        sample_config: see `read_arguments`.
        words: the verb and what follows it.
        commands: by verb.

    Raises:
        SystemExit: with status 2 after an error, which is printed as one line.
    """
    verb, words = _parse_verb(task, words[:1], commands), words[1:]
    if _flags(words).keys() & {"h", "help"}:
        print(format_help(task, verb, commands[verb], config_class, build_parser(config_class, commands[verb])))
        sys.exit(0)
    try:
        return read_arguments(task, config_class, sample_config, verb, words, commands)
    except ValueError as error:
        print(f"error: {error}; --help lists the settings", file=sys.stderr)
        sys.exit(2)


def read_arguments(
    task: str,
    config_class: type[TaskConfig],
    sample_config: Path,
    verb: str,
    words: Sequence[str],
    commands: Mapping[str, Command] = COMMANDS,
) -> Arguments:
    """Settings and flags from the words after a verb.

    Settings come from the defaults, then from a run's `config.yaml` (`--run`, `--resume`, `--extend`) or the sample's
    recipe, then from each `--config`, then from flags. The sample's recipe, for a verb that uses the sample where
    neither `--config` nor `--data.root` is given, is `sample_config`, or the file beside it with the model's name in
    front.

    Raises:
        ValueError: if one is wrong, in one line.
    """
    parser = build_parser(config_class, commands[verb])
    files, words = _split_config_files(_name_nulls(_complete_switches(words, parser), parser))
    flags = _flags(words)
    known = [action.dest for action in parser._actions]
    try:
        for key, value in flags.items():
            _refuse_renamed(key, value, known)
            if key in known:
                _refuse_unused(key, verb, commands, config_class, has_run="run" in flags)
        run = flags.get("run") or flags.get("resume") or flags.get("extend")
        files = [*_run_config(run), *map(_existing, files)]
        if commands[verb].uses_sample and not files and "data.root" not in flags:
            of_model = sample_config.with_name(f"{flags.get('model')}_{sample_config.name}")
            words = ["--config", str(of_model if of_model.is_file() else sample_config), *words]
        if files and "backbone.name" in flags and "backbone.channels" not in flags:
            words = [*words, "--backbone.channels=null"]  # those in a file are of another backbone
        options = parser.parse_args([*(word for file in files for word in ("--config", file)), *words])
        config = build_settings(config_class, options)
        _check_outputs(vars(options))
        if "run" in options and options.run is None and config.pretrained == "none":
            raise ValueError(
                "expected a model: --run with a run folder, or --pretrained with the name or the file of a published "
                f"one, which `python -m tasks.{task} models` lists"
            )
    except (argparse.ArgumentError, ValueError, OverflowError) as error:  # an int of 400 digits is no float
        text = _explain(str(error), known)
        (key,) = re.findall(r"^(?:unknown setting )?([^:;]*)", text)
        if files and not any(file in text for file in files) and key not in flags:
            text += f", in {' and '.join(files)} or on the command line"
            if text.startswith("unknown setting") and any(Path(file).name == CONFIG for file in files):
                text += "; is it a run of another task?"
        raise ValueError(text) from error
    own = set(vars(options)) - {field.name for field in dataclasses.fields(config_class)} - {"config"}
    return Arguments(verb, config, {key: options[key] for key in own}, frozenset(flags))


def _check_outputs(options: Mapping[str, Any]) -> None:
    """Raise a ValueError if a place to write to is a URL."""
    for key in {"run_dir", "out", "record"} & options.keys():
        if is_url(str(options[key])):
            raise ValueError(f"{key}: {options[key]}: {NOT_LOCAL}")


def build_parser(config_class: type[TaskConfig], command: Command) -> ArgumentParser:
    """The parser of one verb. It has all settings of a task, since all of them are in a run's `config.yaml`."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action=ConfigFile, metavar="FILE", help="YAML file of settings; flags override it")
    command.add_flags(parser)
    parser.add_class_arguments(config_class)
    return parser


def _parse_verb(task: str, words: Sequence[str], commands: Mapping[str, Command]) -> str:
    """The verb; without one the list of verbs is printed, to stdout with status 0 where help is asked for."""
    (verb,) = words or [""]
    if verb in commands:
        return verb
    verbs = list_verbs(task, commands)
    if verb in ("-h", "--help"):
        print(verbs)
        sys.exit(0)
    near = difflib.get_close_matches(verb, commands, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if RENAMED_VERBS.get(verb, "").partition(" ")[0] in commands:
        hint = f", which is now {RENAMED_VERBS[verb]}"
    print(f"error: expected a verb, got {verb or 'nothing'}{hint}\n\n{verbs}", file=sys.stderr)
    sys.exit(2)


def _flags(words: Sequence[str]) -> dict[str, str]:
    """Each flag among the words, without its hyphens, and the word after it or after its `=`."""
    words = list(takewhile(lambda word: word != "--", words))
    flags = {}
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        if re.match("--[a-z]|-h$", word):
            key, _, value = word.lstrip("-").partition("=")
            flags[key] = value or after
    return flags


def _refuse_renamed(key: str, value: str, known: Sequence[str]) -> None:
    renamed = renamed_flag(key, value, known)
    if renamed is not None:
        raise ValueError(renamed)


def _refuse_unused(
    key: str, verb: str, commands: Mapping[str, Command], config_class: type[TaskConfig], *, has_run: bool
) -> None:
    """Raise a ValueError for a whole group of settings, and for a setting that has no effect on the verb."""
    groups: dict[str, Any] = {field.name: field.default_factory for field in dataclasses.fields(config_class)}
    name = key.partition(".")[0]
    if name not in groups:
        return  # one of the verb's own flags
    if isinstance(groups[name], type) and name == key:
        example = dataclasses.fields(groups[name])[0].name
        raise ValueError(f"{key}: is a group of settings; give one of them, such as {key}.{example}")
    if not config_class.acts_in(key, verb):
        acting = [other for other in commands if config_class.acts_in(key, other)]
        raise ValueError(f"{key}: cannot be set in {verb}; it acts in {', '.join(acting)}")
    if has_run and not config_class.acts_in(key, verb, has_run=True):
        raise ValueError(f"{key}: cannot be set in {verb} with --run, which has its own")


def _run_config(run: str | None) -> list[str]:
    """The settings of a run, if there is one."""
    return [str(config_file(Path(run)))] if run else []


def _existing(file: str) -> str:
    if not Path(file).is_file():
        raise ValueError(f"--config: {file} does not exist")
    return file


def _explain(message: str, known: Sequence[str]) -> str:
    """The library's message as one line, with the nearest right name for one that is not known."""
    text = re.sub(r"Parser key \"(\S+?)\":", r"\1:", " ".join(message.split()))
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
    text = re.sub(r"Group '(\S+)' does not accept option '(\S+)'", r"Option '\1.\2' is not accepted", text)
    unknown = re.search(r"unrecognized arguments: --([\w.]+)|Option '([\w.]+)' is not accepted", text)
    if unknown is None:
        return text
    key = unknown[1] or unknown[2]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown setting {key}" + (f"; did you mean {near[0]}?" if near else "")


# jsonargparse's own means do not replace these: its ActionYesNo is for single arguments, not for fields of a
# dataclass, and with nargs="?" a switch would swallow an input after it; its default_config_files are loaded without
# `ConfigFile`, which knows the names of earlier versions.


def _complete_switches(words: Sequence[str], parser: ArgumentParser) -> list[str]:
    """The words with `true` after each setting that is true or false and stands alone, as in `--exact photo.jpg`."""
    switches = {f"--{action.dest}" for action in parser._actions if getattr(action, "_typehint", None) is bool}
    completed: list[str] = []
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        completed += [word, "true"] if word in switches and after not in ("true", "false") else [word]
    return completed


def _name_nulls(words: Sequence[str], parser: ArgumentParser) -> list[str]:
    """The words with `null` in place of `none` as the value of a setting that may be null and is no text."""
    nullable = {f"--{key}" for key in nullable_settings(parser)}
    named: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        is_null = flag in nullable and is_none(value)
        named.append((f"{flag}=null" if equals else "null") if is_null else word)
    return named


def _split_config_files(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Each `--config FILE`, and the other words: flags override files wherever they stand."""
    files, others = [], []
    arriving = iter(words)
    for word in arriving:
        if word == "--config":
            files.append(next(arriving, ""))
        elif word.startswith("--config="):
            files.append(word.removeprefix("--config="))
        else:
            others.append(word)
    return files, others
