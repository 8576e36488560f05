"""`python -m datasets check FOLDER`: look at data as `train` does, and draw them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from datasets.files import local_path
from datasets.tools.flags import add_data_flags

PICTURES = Path("runs/check")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb besides FOLDER and --json, which the frame adds (`datasets/tools/cli.py`)."""
    add_data_flags(parser)
    parser.add_argument(
        "--out", type=local_path, metavar="NEW", help=f"new folder for the pictures (default: {PICTURES}/NAME)"
    )


def check(options: argparse.Namespace) -> int:
    """Print what is found, and draw a sheet of examples and histograms.

    Returns:
        The exit status: 1 if a training would not start, else 0.
    """
    from datasets.files import new_folder
    from datasets.look.finding import Finding
    from datasets.look.look import look
    from datasets.open import open_folder
    from datasets.tools.counts import count_splits, print_table
    from datasets.tools.pictures import draw_examples, draw_histograms
    from datasets.writers.output import new_output

    kind, data = open_folder(options.folder, kind=options.task, format=options.format, csv=options.csv)
    sources = {split: data[split] for split in data.names}
    lines = dict.fromkeys(line for source in sources.values() for line in source.warnings)
    findings = [*look(sources), *(Finding("warning", line) for line in lines)]
    if "train" not in sources:
        findings.append(Finding("note", "there is no train part: these data are for evaluation only"))
    elif "val" not in sources:
        findings.append(Finding("note", "there is no val part: training holds some images of train out for it"))
    status = int(any(finding.severity == "error" for finding in findings))
    splits = count_splits(sources)
    if not options.json:
        print(f"{options.folder}: {kind}, {data.found}")
        print_table(splits)
        for severity, text in findings:
            print(f"{severity}: {text}")
        if not findings:
            print("nothing to mend")
    out = options.out or new_folder(PICTURES / (options.folder.resolve().name or "data"))
    with new_output(out, options.folder) as folder:
        names = ["examples.png"] if draw_examples(sources, folder / "examples.png") else []
        draw_histograms(sources, folder / "histograms.png")
    pictures = [str(out / name) for name in [*names, "histograms.png"]]
    if options.json:
        record = {"folder": str(options.folder), "task": kind, "found": data.found, "splits": splits}
        record |= {"findings": [finding._asdict() for finding in findings], "pictures": pictures}
        print(json.dumps(record, indent=2))
    else:
        print(f"look at {' and '.join(pictures)}")
    return status
