"""The benchmark's results for a terminal and for programs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from results.bench.measure import Details, Result, Row, Step

WIDTH = 120  # where the output is no terminal


def print_table(results: Sequence[Result]) -> None:
    """One table on standard output, with notes below."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("area", "work", "implementation"):
        table.add_column(column)
    for column in ("speed", "ratio", "note"):
        table.add_column(column, justify="right", no_wrap=True)
    notes: list[str] = []
    for result in results:
        labels = (result.area, result.name)
        for row in result.rows:
            note = _note(row)
            notes += [note] if note else []
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            speed = f"{_figure(row.per_second)} {result.unit}/s"
            table.add_row(*labels, row.implementation, speed, ratio, str(len(notes)) if note else "")
            labels = ("", "")
        table.add_section()
    console.print(table)
    for number, note in enumerate(notes, 1):
        console.print(f"{number}. {note}", highlight=False, soft_wrap=True)
    console.print(machine(), highlight=False)


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """All results, and the machine that they are of."""
    return {
        "machine": machine(),
        "results": [result._asdict() | {"rows": [row._asdict() for row in result.rows]} for result in results],
    }


def machine() -> str:
    """Processor, cores and torch's version."""
    return f"{platform.machine()}, {os.cpu_count()} cores, torch {version('torch')}"


def _note(row: Row) -> str:
    return ", ".join([*_parts(row.parts), *_details(row.details)])


def _parts(parts: Step) -> list[str]:
    if len(parts) == 1:
        return []
    total = sum(parts.values())
    return [f"{part} {_figure(1000 * seconds)} ms ({100 * seconds / total:.0f}%)" for part, seconds in parts.items()]


def _details(details: Details) -> list[str]:
    return [f"{name} {value if isinstance(value, str) else _figure(value)}" for name, value in details.items()]


def _figure(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
