"""`python -m datasets convert FOLDER --to yolo --out NEW`: write data in another format."""

from __future__ import annotations

import argparse

from datasets.tools.flags import TARGETS, add_data_flags, add_out, fraction
from datasets.tools.results import print_result, print_warnings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb besides FOLDER and --json."""
    parser.add_argument("--to", choices=TARGETS, required=True, help="the format to write; without boxes, webdataset")
    add_out(parser, required=True)
    add_data_flags(parser)
    parser.add_argument(
        "--val_fraction",
        type=fraction,
        metavar="F",
        help="hold out a val part as train does, where the data have none; without this flag all images are for train",
    )


def convert(options: argparse.Namespace) -> int:
    """Write the data in another format; returns the exit status."""
    from datasets.tools.divide import divide  # only now: OpenCV and torch take seconds to import
    from datasets.writers.output import new_output
    from datasets.writers.write import write_data

    with new_output(options.out, options.folder) as folder:
        data = divide(
            options.folder,
            kind=options.task,
            format=options.format,
            csv=options.csv,
            val_fraction=options.val_fraction,
        )
        warnings = print_warnings(data.warnings)
        written, notes = write_data(folder, data.sources, options.to, copies=options.copy)
    notes = data.notes + notes
    print_result(data.found, written, notes, warnings, out=options.out, format=options.to, as_json=options.json)
    return 0
