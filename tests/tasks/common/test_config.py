"""The range that a setting's type states is held, and the setting is named as on the command line."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import pytest
import yaml
from annotated_types import Interval, MultipleOf

from tasks.common.ranges import (
    AtLeast2,
    ClosedUnit,
    InputSize,
    LeftOpenUnit,
    NonNegative,
    NonNegativeInt,
    OpenUnit,
    Positive,
    PositiveInt,
    RightOpenUnit,
    Settings,
)
from tasks.common.settings import read_config
from tasks.registry import TASKS, config_class

NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "expected"),
    [
        (Positive, [1e-9, 2], [0, -1], "a number over 0"),
        (NonNegative, [0, 2.5], [-1e-9], "a number of 0 or more"),
        (OpenUnit, [1e-9, 0.999], [0, 1], "a number over 0 and under 1"),
        (ClosedUnit, [0, 1], [-0.1, 1.1], "a number of 0 or more and at most 1"),
        (LeftOpenUnit, [1e-9, 1], [0, 1.1], "a number over 0 and at most 1"),
        (RightOpenUnit, [0, 0.999], [-0.1, 1], "a number of 0 or more and under 1"),
        (PositiveInt, [1, 10], [0, -1], "a number of 1 or more"),
        (NonNegativeInt, [0, 10], [-1], "a number of 0 or more"),
        (AtLeast2, [2, 3], [1, -2], "a number of 2 or more"),
        (InputSize, [32, 224], [31, 0], "a number of 32 or more"),
        (Annotated[float, Interval(gt=0.3, le=1)], [0.31, 1], [0.3, 1.1], "a number over 0.3 and at most 1"),
        (Positive | None, [1, None], [0], "a number over 0, or null"),
        (tuple[Positive, ...], [(), (1,), (1, 2)], [(0,), (1, 2, 0)], "numbers over 0"),
        (tuple[Positive, OpenUnit], [(5, 0.5)], [(5, 1)], "numbers over 0 and under 1"),
        (tuple[PositiveInt, ...] | None, [None, (1,)], [(0,)], "numbers of 1 or more, or null"),
    ],
)
def test_range_of_each_type(kind: Any, inside: list[Any], outside: list[Any], expected: str) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Example(Settings, group="example"):
        value: kind

    for value in inside:
        assert Example(value=value).value == value
    for value in outside:
        message = f"example.value: expected {expected}, got {value!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Example(value=value)


def test_a_constraint_that_is_not_known_does_not_pass_unnoticed() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Example(Settings):
        value: Annotated[int, MultipleOf(2)] = 2

    with pytest.raises(AttributeError, match="multiple_of"):
        Example()


def ranged(group: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Each setting that has a range: its key, its group, and its name there."""
    hints = get_type_hints(type(group), include_extras=True)
    for field in dataclasses.fields(group):
        if dataclasses.is_dataclass(value := getattr(group, field.name)):
            yield from ranged(value, f"{prefix}{field.name}.")
        elif "Annotated" in str(hints[field.name]):
            yield f"{prefix}{field.name}", group, field.name


@pytest.mark.parametrize("settings_class", [config_class(task) for task in TASKS])
def test_each_range_is_held_and_the_key_is_the_command_lines(settings_class: type[Any]) -> None:
    settings = list(ranged(settings_class()))
    assert {"optim.lr", "loop.num_workers", "data.input_size", "seed"} <= {key for key, _, _ in settings}
    for key, group, name in settings:
        default = getattr(group, name)
        has_several = "tuple" in str(get_type_hints(type(group))[name])
        in_no_range = (NAN,) * len(default or [NAN]) if has_several else NAN
        with pytest.raises(ValueError, match=rf"^{key}: expected (a number|numbers) .*, got \(?nan"):
            dataclasses.replace(group, **{name: in_no_range})


@pytest.mark.parametrize("settings_class", [config_class(task) for task in TASKS])
def test_values_are_plain_and_a_run_folders_yaml_gives_them_back(settings_class: type[Any], tmp_path: Path) -> None:
    file, again = tmp_path / "first.yaml", tmp_path / "again.yaml"
    file.write_text("optim: {lr: 1, clip_norm: 2, ema_decay: null, epochs: 3}")
    config = read_config(settings_class, file)
    for key, kind in (("lr", float), ("clip_norm", float), ("ema_decay", type(None)), ("epochs", int)):
        assert type(getattr(config.optim, key)) is kind
    again.write_text(yaml.safe_dump(dataclasses.asdict(config)))
    assert read_config(settings_class, again) == config
