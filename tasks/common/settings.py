"""From YAML and flags to typed settings, and back. Imports nothing heavy."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]

from datasets.yaml_file import read_yaml
from tasks.common.legacy import upgrade_settings

C = TypeVar("C", bound=Any)
CONFIG = "config.yaml"  # in a run folder


def read_config(config_class: type[C], file: Path) -> C:
    """The settings of a YAML file.

    Raises:
        ValueError: if there is no such file, or a setting in it is wrong.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ConfigFile)
    parser.add_class_arguments(config_class)
    try:
        return build_settings(config_class, parser.parse_args(["--config", str(file)]))
    except (argparse.ArgumentError, ValueError, OverflowError) as error:  # an int of 400 digits is no float
        reason = " ".join(str(error).split())
        raise ValueError(reason if str(file) in reason else f"{file}: {reason}") from error


def config_file(run: Path) -> Path:
    """The file with the settings of a run or an export.

    Raises:
        ValueError: if there is none, or this is not a folder.
    """
    if run.is_file():
        is_in_run = (run.parent / CONFIG).is_file()
        expected = f"give its folder, {run.parent}" if is_in_run else f"expected a run folder, with a {CONFIG} in it"
        raise ValueError(f"{run}: a file; {expected}")
    if not (run / CONFIG).is_file():
        raise ValueError(f"{run}: not a run folder: it has no {CONFIG}")
    return run / CONFIG


def build_settings(config_class: type[C], options: Namespace | Mapping[str, Any]) -> C:
    """The typed settings; their own checks run here."""
    values = {}
    for field in dataclasses.fields(config_class):
        value, group = options[field.name], field.default_factory
        if isinstance(group, type):
            if not isinstance(value, Namespace):
                raise ValueError(f"{field.name}: expected a group of settings, got {value!r}")
            value = group(**vars(value))
        values[field.name] = value
    return config_class(**values)  # type: ignore[no-any-return]  # any dataclass


def get_setting(config: Any, key: str) -> Any:
    """The value of a setting by its dotted key, such as `optim.lr`."""
    return functools.reduce(getattr, key.split("."), config)


def replace_settings(config: C, values: Mapping[str, Any]) -> C:
    """The settings with other values, by dotted key; their own checks run once all are in place.

    Raises:
        ValueError: if a value is out of range.
    """
    groups: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        groups.setdefault(group, {})[name] = value
    changes = groups.pop("", {})
    inner = {group: dataclasses.replace(getattr(config, group), **items) for group, items in groups.items()}
    return dataclasses.replace(config, **changes, **inner)


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested groups as one level: `optim.lr` and so on."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = {f"{key}.{name}": v for name, v in flatten(value).items()} if isinstance(value, dict) else {key: value}
        flat |= inner
    return flat


def load_yaml(file: Path) -> dict[str, Any]:
    """The settings in a YAML file as nested groups, with current names.

    Raises:
        ValueError: if the file is not YAML, or has no settings.
    """
    settings = read_yaml(file)
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: expected settings, one `key: value` a line")
    return upgrade_settings(settings, str(file))


def nullable_settings(parser: ArgumentParser) -> frozenset[str]:
    """The settings that may be null and are no text: for them the word `none` means null, in YAML and in flags."""
    kinds = {action.dest: get_args(getattr(action, "_typehint", None)) for action in parser._actions}
    return frozenset(key for key, types in kinds.items() if NoneType in types and str not in types)


def is_none(value: Any) -> bool:
    """Whether a value is the word `none`, which YAML reads as a text."""
    return isinstance(value, str) and value.lower() == "none"


def _with_nulls(settings: Mapping[str, Any], nullable: Collection[str], prefix: str = "") -> dict[str, Any]:
    """The settings with null in place of `none` where the setting is nullable."""
    named: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        inner = _with_nulls(value, nullable, f"{key}.") if isinstance(value, dict) else value
        named[name] = None if key in nullable and is_none(value) else inner
    return named


class ConfigFile(ActionConfigFile):
    """The action of `--config FILE`, also for files with names of earlier versions and with `none` for null."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Parse a file's settings; if they are not as in the file, they are passed to the parser as YAML text."""
        file = Path(values)
        if file.is_file():
            settings = _with_nulls(load_yaml(file), nullable_settings(parser))
            if settings != read_yaml(file):
                values = yaml.safe_dump(settings)
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]
