"""The tables as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from results.paper import TITLES
from results.tables import Cell, is_within_rounding

COLUMNS = ("row", "quantity", "paper", "ours", "gap", "note")
NUMBERS = ("paper", "ours", "gap")
ERRATA = "Errata: counts that are not the printed number, rounded or cut off"
QUANTITIES = {
    "mult_adds": "mult-adds, M",
    "params": "parameters, M",
    "mult_adds_fraction": "mult-adds, %",
    "params_fraction": "parameters, %",
    "top1": "top-1, %",
    "map": "mAP, %",
    "mean_ap": "mean AP, %",
    "tar_at_far_1e-4": "TAR at FAR 1e-4, %",
}


class Grid(NamedTuple):
    """A table as text.

    Attributes:
        title: above it.
        rows: the text of each of `COLUMNS`.
    """

    title: str
    rows: list[tuple[str, ...]]


def print_tables(tables: Mapping[str, Sequence[Cell]]) -> None:
    """Print all tables, the errata last."""
    console = Console()
    for grid in _grids(tables):
        drawn = Table(title=grid.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in COLUMNS:
            drawn.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
        notes = list(dict.fromkeys(words[-1] for words in grid.rows if words[-1]))
        for *words, note in grid.rows:
            drawn.add_row(*words, str(notes.index(note) + 1) if note else "")
        console.print(drawn)
        for number, note in enumerate(notes, 1):  # below, since a column of notes would leave no room for the others
            console.print(f"{number}. {note}", highlight=False)
        console.print()


def as_markdown(tables: Mapping[str, Sequence[Cell]]) -> str:
    """All tables, each under a heading, the errata last."""
    parts = []
    for grid in _grids(tables):
        lines = [f"### {grid.title}", "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(words)} |" for words in grid.rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def as_json(tables: Mapping[str, Sequence[Cell]]) -> dict[str, Any]:
    """Every cell's value, source and provenance."""
    return {
        "tables": {
            table: {"title": TITLES[table], "cells": [_cell_as_json(cell) for cell in cells]}
            for table, cells in tables.items()
        }
    }


def _cell_as_json(cell: Cell) -> dict[str, Any]:
    fields = {key: getattr(cell.paper, key) for key in ("row", "quantity", "unit", "note")}
    return fields | {
        "paper": cell.paper.value,
        "ours": cell.ours,
        "gap": cell.gap,
        "is_within_rounding": is_within_rounding(cell) if cell.source == "computed" else None,
        "source": cell.source,
        "provenance": cell.record,
    }


def _grids(tables: Mapping[str, Sequence[Cell]]) -> list[Grid]:
    grids = []
    for table, cells in tables.items():
        rows = [_words(cell) for cell in cells]
        before = [""] + [words[0] for words in rows]  # a row's name once, beside its first number
        rows = [("" if words[0] == name else words[0], *words[1:]) for words, name in zip(rows, before, strict=False)]
        grids.append(Grid(f"Table {table}: {TITLES[table]}", rows))
    errata = [(table, cell) for table, cells in tables.items() for cell in cells if not is_within_rounding(cell)]
    if errata:
        grids.append(Grid(ERRATA, [(f"{table}: {cell.paper.row}", *_words(cell)[1:]) for table, cell in errata]))
    return grids


def _words(cell: Cell) -> tuple[str, ...]:
    paper = cell.paper
    quantity = QUANTITIES.get(paper.quantity, f"{paper.quantity.replace('_', ' ')}, %")
    return paper.row, quantity, f"{paper.value:g}", _ours(cell), _gap(cell), _note(cell)


def _ours(cell: Cell) -> str:
    if cell.ours is None:
        return "-"
    text = f"{cell.ours:.2f}" if abs(cell.ours) < 1000 else f"{cell.ours:.0f}"
    return f"({text})" if cell.source == "measured" else text


def _gap(cell: Cell) -> str:
    return "" if cell.gap is None else f"{round(100 * cell.gap, 1) + 0.0:+.1f}%"  # no minus before a zero


def _note(cell: Cell) -> str:
    notes = []
    if cell.record is not None:
        images = cell.record["metrics"].get("num_images", "?")
        notes.append(f"other data: {cell.record['data']}, {images} images of {cell.record['split']}")
    elif cell.ours is None and cell.paper.unit == "million":
        notes.append("as stated: we have no such network")
    return "; ".join([*notes, cell.paper.note] if cell.paper.note else notes)
