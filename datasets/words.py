"""Counts, names and lists in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NUM_NAMED = 4


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as "1 image", "1,280 boxes", "2 categories"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"


def first_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are, such as "a, b, c, d and 5 more"."""
    rest = len(names) - NUM_NAMED
    return ", ".join(names[:NUM_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def some(names: Sequence[str], noun: str) -> str:
    """A number of things with the first names, such as "2 folders (a, b)"."""
    return f"{plural(len(names), noun)} ({first_of(names)})"


def reason_of(error: BaseException) -> str:
    """The first line of an error's message; its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def join_words(words: Iterable[str]) -> str:
    """Such as "a, b and c"."""
    *first, last = ["", *words]
    return f"{', '.join(first[1:])} and {last}" if first[1:] else last


def is_url(text: str) -> bool:
    """Whether a text has a scheme, such as `https://` or `s3://`."""
    return "://" in text
