"""What the verbs that write data print. Light to import."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.tools.flags import TARGETS

MAX_PRINTED = 50  # classes; --json lists all


def print_warnings(lines: Iterable[str]) -> list[str]:
    """Print each line once on stderr; returns those lines."""
    once = list(dict.fromkeys(lines))
    for line in once:
        print(f"warning: {line}", file=sys.stderr)
    return once


def print_result(
    found: str,
    sources: Mapping[Any, Any],
    notes: Sequence[str],
    warnings: Sequence[str],
    *,
    out: Path | None,
    format: str | None,
    as_json: bool,
) -> None:
    """Print what was found and what is in each split, as tables or as JSON.

    Args:
        found: what the data are.
        sources: by split, as they are written.
        notes: what was changed or left out.
        warnings: of the readers, which are printed already.
        out: the folder that was written; None if none was.
        format: that was written, a key of TARGETS; None for the data's own.
        as_json: instead of tables.
    """
    from datasets.tools.counts import count_classes, count_splits, print_table  # only now: torch takes seconds

    splits, classes = count_splits(sources), count_classes(sources)
    if as_json:
        result: dict[str, Any] = {"found": found, "out": None if out is None else str(out), "format": format}
        result |= {"splits": splits, "classes": classes, "notes": list(notes), "warnings": list(warnings)}
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return
    print(found)
    print_table(splits)
    if classes:
        print_table(classes[:MAX_PRINTED])
    if len(classes) > MAX_PRINTED:
        print(f"and {len(classes) - MAX_PRINTED:,} more, which --json lists")
    for line in notes:
        print(f"note: {line}")
    if out is not None:
        print(f"wrote {out}" + (f" ({TARGETS[format]})" if format else ""))
