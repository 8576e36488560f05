"""`python -m datasets stats FOLDER`: count what is in data."""

from __future__ import annotations

import argparse
import json

from datasets.tools.flags import add_data_flags

MAX_PRINTED = 100  # classes


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb besides FOLDER and --json, which the frame adds (`datasets/tools/cli.py`)."""
    add_data_flags(parser)


def stats(options: argparse.Namespace) -> int:
    """Print tables of splits, classes, and sizes of boxes and images."""
    from datasets.open import open_folder
    from datasets.tools.counts import count_classes, count_sizes, count_splits, print_table, quantiles

    kind, data = open_folder(options.folder, kind=options.task, format=options.format, csv=options.csv)
    sources = {split: data[split] for split in data.names}
    tables = {
        "splits": count_splits(sources),
        "classes": count_classes(sources),
        "box_sizes": count_sizes(sources),
        "measures": quantiles(sources),
    }
    if options.json:
        print(json.dumps({"folder": str(options.folder), "task": kind, "found": data.found} | tables, indent=2))
        return 0
    print(f"{options.folder}: {kind}, {data.found}")
    for name, rows in tables.items():
        if name == "box_sizes" and rows:
            print("boxes by COCO's sizes: small is an area under 32 x 32 px, large from 96 x 96 px")
        if rows:
            print_table(rows[:MAX_PRINTED])
        if len(rows) > MAX_PRINTED:
            print(f"and {len(rows) - MAX_PRINTED:,} more, which --json lists")
    return 0
