"""The paper's tables joined with our counts and measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from results.costs import count
from results.measured import find, value_of
from results.paper import PaperCell

Source = Literal["computed", "measured", "as stated"]


class Cell(NamedTuple):
    """One number of the paper beside ours.

    Attributes:
        paper: the printed number.
        ours: in the same unit; None where we have no such network or measurement.
        source: computed from the real network, measured on the record's data, or as stated in the paper: we have no
            such number.
        record: of a measurement.
    """

    paper: PaperCell
    ours: float | None
    source: Source
    record: dict[str, Any] | None = None

    @property
    def gap(self) -> float | None:
        """Relative difference from the paper's; None unless both are counts."""
        if self.ours is None or self.source != "computed":
            return None
        return (self.ours - self.paper.value) / self.paper.value


def build_tables(paper: Sequence[PaperCell], records: Sequence[dict[str, Any]]) -> dict[str, list[Cell]]:
    """Each table's cells, in the paper's order."""
    tables: dict[str, list[Cell]] = {}
    for cell in paper:
        tables.setdefault(cell.table, []).append(_cell(cell, records))
    return tables


def is_within_rounding(cell: Cell) -> bool:
    """Whether a computed number is the printed one, rounded or truncated at its last non-zero digit."""
    if cell.source != "computed" or cell.ours is None:
        return True
    return abs(cell.ours - cell.paper.value) < _last_digit(cell.paper.value) + 1e-9


def _cell(cell: PaperCell, records: Sequence[dict[str, Any]]) -> Cell:
    counted = count(cell.table, cell.row, cell.quantity)
    if counted is not None:
        return Cell(cell, counted, "computed")
    record = find(records, cell)
    if record is not None:
        return Cell(cell, value_of(record, cell), "measured", record)
    return Cell(cell, None, "as stated")


def _last_digit(value: float) -> float:
    """The place value of the last non-zero digit: 0.01 for 4.25, 100 for 1200."""
    text = f"{value:.10f}".rstrip("0")
    if not text.endswith("."):
        return float(10.0 ** -len(text.partition(".")[2]))
    whole = text[:-1]
    return float(10.0 ** (len(whole) - len(whole.rstrip("0"))))
