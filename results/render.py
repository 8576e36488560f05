"""Tables for a terminal, for a README, and for programs, from the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from results.paper import TITLES
from results.tables import Cell

COLUMNS = ("row", "quantity", "paper", "ours", "gap", "note")
QUANTITIES = {
    "mult_adds": "mult-adds, M",
    "params": "parameters, M",
    "mult_adds_share": "share of mult-adds, %",
    "params_share": "share of parameters, %",
    "top1": "top-1, %",
    "map": "mAP, %",
    "mean_ap": "mean AP, %",
    "tar_at_far_1e-4": "accepted at FAR 1e-4, %",
}


def print_table(table: str, cells: Sequence[Cell]) -> None:
    """On standard output."""
    drawn = Table(title=_title(table), title_justify="left")
    for column in COLUMNS:
        drawn.add_column(column, justify="right" if column in ("paper", "ours", "gap") else "left")
    for words in _rows(cells):
        drawn.add_row(*words)
    Console().print(drawn)


def as_markdown(tables: Mapping[str, Sequence[Cell]]) -> str:
    """All tables, each under a heading."""
    parts = []
    for table, cells in tables.items():
        lines = [f"### {_title(table)}", "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(words)} |" for words in _rows(cells)]
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
    named = {key: getattr(cell.paper, key) for key in ("row", "quantity", "unit", "note")}
    return named | {
        "paper": cell.paper.value,
        "ours": cell.ours,
        "gap": cell.gap,
        "source": cell.source,
        "provenance": cell.record,
    }


def _rows(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    before = ""
    for cell in cells:
        paper = cell.paper
        name = "" if paper.row == before else paper.row
        before = paper.row
        quantity = QUANTITIES.get(paper.quantity, f"{paper.quantity.replace('_', ' ')}, %")
        rows.append((name, quantity, f"{paper.value:g}", _ours(cell), _gap(cell), _note(cell)))
    return rows


def _ours(cell: Cell) -> str:
    if cell.ours is None:
        return "-"
    text = f"{cell.ours:.2f}" if abs(cell.ours) < 1000 else f"{cell.ours:.0f}"
    return f"({text})" if cell.source == "measured" else text


def _gap(cell: Cell) -> str:
    return "" if cell.gap is None else f"{round(100 * cell.gap, 1) + 0.0:+.1f}%"  # no minus before a zero


def _note(cell: Cell) -> str:
    if cell.record is None:
        return cell.paper.note
    record = cell.record
    what = f"other data: {record['data']}, {record['metrics'].get('num_images', '?')} images of {record['split']}"
    return f"{what}. {cell.paper.note}" if cell.paper.note else what


def _title(table: str) -> str:
    return f"Table {table}: {TITLES[table]}"
