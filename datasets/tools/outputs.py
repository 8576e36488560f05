"""Flags and printed results of the verbs that write data. Light to import."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TARGETS = {"coco": "COCO", "yolo": "YOLO", "voc": "Pascal VOC", "webdataset": "WebDataset shards"}
MAX_PRINTED = 50  # classes; --json lists all


def add_out(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The flags of verbs that write a data set."""
    parser.add_argument("--out", type=Path, required=required, metavar="NEW", help="folder to write, which must be new")
    parser.add_argument("--copy", action="store_true", help="copy image files, for programs that change them in place")


def fraction(word: str) -> float:
    """A fraction between 0 and 1, from the command line."""
    value = float(word)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {word}")
    return value


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
