"""`python -m datasets split FOLDER --val_fraction 0.2`: divide data into train, val and test."""

from __future__ import annotations

import argparse
from contextlib import nullcontext

from datasets.tools.flags import add_data_flags, add_out, fraction
from datasets.tools.results import print_result, print_warnings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb besides FOLDER and --json."""
    parser.add_argument("--val_fraction", type=fraction, metavar="F", help="fraction of the images for val")
    parser.add_argument("--test_fraction", type=fraction, metavar="F", help="fraction of the images for test")
    add_out(parser, required=False)
    add_data_flags(parser)


def split(options: argparse.Namespace) -> int:
    """Print how the data are divided, or write them so; returns the exit status."""
    from datasets.detection.read import find_format  # only now: OpenCV and torch take seconds to import
    from datasets.tools.divide import divide
    from datasets.writers.output import new_output
    from datasets.writers.write import BOX_WRITERS, write_data

    if options.val_fraction is None and options.test_fraction is None:
        raise ValueError("expected --val_fraction or --test_fraction, or both")
    with new_output(options.out, options.folder) if options.out else nullcontext() as folder:
        data = divide(
            options.folder,
            kind=options.task,
            format=options.format,
            csv=options.csv,
            val_fraction=options.val_fraction,
            test_fraction=options.test_fraction,
        )
        warnings, notes, sources, target = print_warnings(data.warnings), data.notes, data.sources, None
        if data.kind == "detection":
            target = options.format if options.format != "auto" else find_format(options.folder)
            if target not in BOX_WRITERS:
                notes.append(f"{target} is written as COCO")
                target = "coco"
        if folder is not None:
            sources, lines = write_data(folder, sources, target, copies=options.copy)
            notes += lines
    print_result(data.found, sources, notes, warnings, out=options.out, format=target, as_json=options.json)
    return 0
