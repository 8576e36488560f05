"""The command line of every task: train, evaluate, predict, cost, and the verbs that a task adds.

Settings come from a task's frozen dataclass, a YAML file and flags, in this order. Nothing heavy is imported before the
arguments are parsed, so that `--help` and typing errors are answered at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tasks.common.cli.commands import COMMANDS, Command
from tasks.common.cli.parser import parse_arguments
from tasks.common.runtime.repository import ROOT
from tasks.registry import config_class, task_class

SAMPLE_CONFIG = "sample.yaml"


def main(name: str, arguments: Sequence[str], commands: Mapping[str, Command] = COMMANDS) -> int:
    """Run one command of a task.

    Args:
        name: of the task.
        arguments: the words after `python -m tasks.<task>`.
        commands: by verb.

    Returns:
        The exit status: 0, or 1 after an error in the data, 130 when interrupted.

    Raises:
        SystemExit: with status 2 after an error in the arguments, 0 after `--help`.
    """

    def run() -> int:
        sample_config = ROOT / "configs" / name / SAMPLE_CONFIG
        parsed = parse_arguments(name, config_class(name), sample_config, arguments, commands)
        module = importlib.import_module(commands[parsed.verb].module)  # only now: torch takes seconds to import
        task = name if commands[parsed.verb].is_light else task_class(name)
        return int(getattr(module, parsed.verb)(task, parsed))

    return exit_status(run)


def exit_status(run: Callable[[], int]) -> int:
    """The status that a command returns, see `datasets.console.exit_status`; 1 if `datasets` is another project's."""
    try:
        _check_packages()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from datasets import console  # not before the check: another project's `datasets` has no such module

    return console.exit_status(run)


def _check_packages() -> None:
    """Make sure that `datasets` is our package, since another project has one of that name."""
    import datasets

    if Path(datasets.__file__ or "").resolve().parent != ROOT / "datasets":
        raise ValueError(
            f"the package 'datasets' was imported from {datasets.__file__}, which is another project's; run "
            f"`python -m tasks...` from the folder {ROOT}"
        )
