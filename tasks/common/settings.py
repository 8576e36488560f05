"""From YAML and flags to typed settings, and back. Imports nothing heavy."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]

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
    except argparse.ArgumentError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from error


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
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: expected settings, one `key: value` a line")
    return upgrade_settings(settings, str(file))


class ConfigFile(ActionConfigFile):
    """The action of `--config FILE`, also for files with names of earlier versions."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Parse a file's settings; renamed ones are passed to the parser as YAML text."""
        file = Path(values)
        if file.is_file():
            settings = load_yaml(file)
            if settings != yaml.safe_load(file.read_text(encoding="utf-8")):
                values = yaml.safe_dump(settings)
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]
