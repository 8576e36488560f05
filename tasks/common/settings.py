"""From YAML and flags to typed settings, and back. Imports nothing heavy."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace

C = TypeVar("C", bound=Any)
CONFIG = "config.yaml"  # in a run folder


def read_config(config_class: type[C], file: Path) -> C:
    """The settings of a YAML file.

    Raises:
        ValueError: if there is no such file, or a setting in it is wrong.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
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
