"""Help that fits a screen: of a verb, only the settings that act in it, and two commands that run."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shutil
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentParser

from tasks.common.cli.commands import Command
from tasks.common.config import TaskConfig

# The settings that most trainings change; they come first where all settings are listed.
USUAL = (
    *("data.root", "data.input_size", "backbone.name", "pretrained", "optim.epochs", "optim.batch_size"),
    *("optim.lr", "loop.device", "loop.num_workers", "seed"),
)
MAX_WIDTH, NAME_WIDTH = 110, 34


def program(task: str, verb: str = "") -> str:
    """The command of a verb; a package with a single verb of its own name, such as distill, needs no verb."""
    return f"python -m {task}" if verb == task else f"python -m tasks.{task} {verb}".rstrip()


def format_usage(task: str, verb: str, command: Command) -> str:
    """The usage line of a verb."""
    return f"usage: {program(task, verb)}{command.usage} [--config FILE] [--setting VALUE ...]"


def format_examples(task: str, command: Command) -> str:
    """The examples of a verb, a line each."""
    return "\n".join(["examples:", *(f"  {example.format(task=task)}" for example in command.examples)])


def list_verbs(task: str, commands: Mapping[str, Command]) -> str:
    """The verbs of a task, a line each."""
    summary = (importlib.import_module(f"tasks.{task}").__doc__ or "").split("\n")[0]
    width = max(map(len, commands)) + 2
    lines = [f"  {verb:<{width}}{command.help.partition('. ')[0].rstrip('.')}" for verb, command in commands.items()]
    usage = f"usage: {program(task)} VERB [--config FILE] [--setting VALUE ...]"
    more = f"settings and examples of a verb: {program(task)} VERB --help"
    return "\n".join([usage, "", summary, "", "verbs:", *lines, "", more])


def format_help(task: str, verb: str, command: Command, config_class: type[TaskConfig], parser: ArgumentParser) -> str:
    """The help of a verb: all of its settings in full where all act in it, as in train, else those that act, in short.

    Args:
        task: name of the task.
        verb: name of the verb.
        command: the verb.
        config_class: the settings.
        parser: with the verb's own flags and all settings.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns, MAX_WIDTH)
    names = {field.name for field in dataclasses.fields(config_class)}
    shown = [action for action in parser._actions if action.default != SUPPRESS]
    settings = {action.dest: action for action in shown if action.dest.partition(".")[0] in names}
    acting = [key for key in settings if config_class.acts_in(key, verb)]
    acting.sort(key=lambda key: key.startswith(("optim.", "loop.")))  # the task's own first
    own = _format_section("arguments", (action for action in shown if action.dest not in settings), width)
    usage = textwrap.fill(format_usage(task, verb, command), width, subsequent_indent=" " * 7, break_on_hyphens=False)
    blocks = [usage, textwrap.fill(command.help.format(task=task), width), own]
    if len(acting) == len(settings):
        blocks += _all_settings(settings, config_class, width)
    elif acting:
        has_run = any(action.dest == "run" for action in shown)
        with_run = [key for key in acting if config_class.acts_in(key, verb, has_run=True)]
        defaults = "settings; their defaults are the run's, where there is a run" if has_run else "settings"
        blocks.append(_format_section(defaults, (settings[key] for key in with_run), width, brief=True))
        without_run = "  ".join(f"--{key}" for key in acting if key not in with_run)
        if without_run:
            blocks.append("settings without --run:\n" + textwrap.indent(textwrap.fill(without_run, width - 2), "  "))
        blocks.append(f"all settings in full: {program(task, 'train')} --help")
    return "\n\n".join([*blocks, format_examples(task, command)])


def _all_settings(settings: Mapping[str, Action], config_class: type[TaskConfig], width: int) -> list[str]:
    """The usual settings, then the others by group, each below the first line of its class's docstring."""
    titles = {
        field.name: (field.default_factory.__doc__ or "").splitlines()[0].rstrip(".")
        for field in dataclasses.fields(config_class)
        if isinstance(field.default_factory, type)
    }
    sections: dict[str, list[Action]] = {"usual settings": [settings[key] for key in USUAL], "other settings": []}
    for key, action in settings.items():
        if key not in USUAL:
            sections.setdefault(titles.get(key.partition(".")[0], "other settings"), []).append(action)
    return [_format_section(title, actions, width) for title, actions in sections.items() if actions]


def _format_section(title: str, actions: Iterable[Action], width: int, *, brief: bool = False) -> str:
    names = {_name(action): _describe(action, brief=brief) for action in actions}
    name_width = min(max(map(len, names)), NAME_WIDTH) + 2
    lines = [textwrap.fill(f"{title}:", width)]
    for name, text in names.items():
        indent = " " * (name_width + 2)
        first = f"  {name:<{name_width}}"
        if len(name) > NAME_WIDTH:
            lines.append(f"  {name}")
            first = indent
        lines.append(textwrap.fill(text, width, initial_indent=first, subsequent_indent=indent))
    return "\n".join(lines)


def _name(action: Action) -> str:
    """The flag and a word for its value, or the name of a positional argument."""
    flag, value = action.option_strings[-1:], _value(action)
    return " ".join([*flag, *([value] if value else [])]) if flag else action.dest


def _value(action: Action) -> str:
    hint: Any = getattr(action, "_typehint", action.type)
    if action.nargs == 0 or (hint is bool and action.default is False):
        return ""
    allows_null = NoneType in get_args(hint)
    kind = next(kind for kind in get_args(hint) if kind is not NoneType) if allows_null else hint
    if isinstance(action.metavar, str):
        word = action.metavar
    elif get_origin(kind) is Literal:
        word = "{" + ",".join([*get_args(kind), *(["null"] if allows_null else [])]) + "}"
    else:
        word = {int: "N", float: "X"}.get(kind, action.dest.rpartition(".")[2].upper())
    return f"{word} ..." if action.nargs in ("+", "*") else word


def _describe(action: Action, *, brief: bool) -> str:
    """The help of a flag, or its first clause, and its default."""
    text, default = action.help or "", action.default
    if brief:
        (text,) = re.findall(r"^(?:[^;.(]|[;.](?! |$)|\([^)]*\))*", text)
    text = text.rstrip(".")
    if not action.option_strings or default is None or default is False or default == []:
        return text
    return f"{text} (default: {default if isinstance(default, str) else json.dumps(default)})"
