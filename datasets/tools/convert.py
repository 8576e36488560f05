"""`python -m datasets convert FOLDER --to yolo --out NEW`: write data in another format."""

from __future__ import annotations

import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb besides FOLDER and --json."""
    parser.add_argument(
        "--to", choices=["coco", "yolo", "voc", "webdataset"], required=True, help="the format to write"
    )


def convert(options: argparse.Namespace) -> int:
    """Run the verb on `options.folder`; returns the exit status."""
    raise ValueError("not written yet")
