"""Phrases of messages: numbers of things with their first names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NUM_NAMED = 3


def some(names: Sequence[str], noun: str) -> str:
    """A number of things with the first names, such as "5 folders (a, b, c, ...)"."""
    more = ", ..." if len(names) > NUM_NAMED else ""
    return f"{len(names):,} {noun if len(names) == 1 else _plural(noun)} ({', '.join(names[:NUM_NAMED])}{more})"


def join_words(words: Iterable[str]) -> str:
    """Such as "a, b and c"."""
    *first, last = ["", *words]
    return f"{', '.join(first[1:])} and {last}" if first[1:] else last


def _plural(noun: str) -> str:
    if noun.endswith("ss"):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
