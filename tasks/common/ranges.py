"""Settings whose types have the range of their values: `lr: Positive`. Imports nothing heavy."""

from __future__ import annotations

import operator
import re
from dataclasses import asdict, dataclass
from itertools import repeat
from types import NoneType
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
OpenUnit = Annotated[float, Interval(gt=0, lt=1)]
ClosedUnit = Annotated[float, Interval(ge=0, le=1)]
LeftOpenUnit = Annotated[float, Interval(gt=0, le=1)]
RightOpenUnit = Annotated[float, Interval(ge=0, lt=1)]
PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
AtLeast2 = Annotated[int, Ge(2)]
InputSize = Annotated[int, Ge(32)]

# The name of each bound in annotated_types, which is also that of the comparison in `operator`.
_BOUNDS = {"gt": "over {}", "ge": "of {} or more", "lt": "under {}", "le": "at most {}"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A group of settings, each checked against the range in its type; only those whose type has None may be null.

    A subclass gives its name on the command line, `class OptimConfig(Settings, group="optim")`, and checks settings
    that depend on each other in a `__post_init__` of its own.
    """

    _prefix: ClassVar[str]

    def __init_subclass__(cls, group: str = "") -> None:
        cls._prefix = f"{group}." if group else ""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            is_text = hint is str  # for which a flag's `null` is a word, and would be taken for a file's name
            if (value is None and NoneType not in get_args(hint)) or (is_text and value == "null"):
                raise ValueError(f"{self._prefix}{name}: cannot be null")
            expected = _violated_range(hint, value)
            require(expected is None, f"{self._prefix}{name}", str(expected), value)


def require(condition: bool, key: str, expected: str, value: object) -> None:
    """Raise a ValueError with the key, the expected values and the one it got, unless the condition holds."""
    if not condition:
        raise ValueError(f"{key}: expected {expected}, got {value!r}")


def require_fold(key: str, fold: str) -> None:
    """Raise a ValueError unless the text is a fold of a cross-validation: k/n with 1 <= k <= n and n of 2 or more."""
    numbers = re.fullmatch(r"(\d+)/(\d+)", fold)
    is_fold = numbers is not None and 1 <= int(numbers[1]) <= int(numbers[2]) and int(numbers[2]) > 1
    require(is_fold, key, "a fold such as 2/5, from 1/5 to 5/5", fold)


def require_threshold(key: str, threshold: float | str) -> None:
    """Raise a ValueError unless it is a number in [0, 1], or a rule: f1, precision=0.9 or recall=0.8."""
    if isinstance(threshold, str):
        rule = re.fullmatch(r"f1|(?:precision|recall)=(\d*\.?\d+)", threshold)
        is_valid = rule is not None and (rule[1] is None or 0 < float(rule[1]) <= 1)
    else:
        is_valid = 0 <= threshold <= 1
    require(is_valid, key, "a number of 0 or more and at most 1, f1, precision=0.9 or recall=0.8", threshold)


def require_region(key: str, region: tuple[float, float, float, float]) -> None:
    """Raise a ValueError unless the region is inside an image: x0, y0, x1, y1 as fractions of its width and height."""
    x0, y0, x1, y1 = region
    is_inside = 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    require(is_inside, key, "x0, y0, x1, y1 with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1", list(region))


def _violated_range(hint: Any, value: Any, noun: str = "a number") -> str | None:
    """The range in a type, in words, if the value is outside it; None otherwise."""
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        bounds = {name: bound for mark in arguments[1:] for name, bound in asdict(mark).items() if bound is not None}
        if value is not None and all(getattr(operator, name)(value, bound) for name, bound in bounds.items()):
            return None
        return f"{noun} {' and '.join(_BOUNDS[name].format(bound) for name, bound in bounds.items())}"
    if get_origin(hint) is tuple:
        hints = repeat(arguments[0]) if arguments[-1] is Ellipsis else arguments
        return next(filter(None, map(_violated_range, hints, value, repeat("numbers"))), None)
    if NoneType in arguments and value is not None:
        expected = _violated_range(arguments[0], value)
        return expected and f"{expected}, or null"
    return None
