"""The flags that several verbs have."""

from __future__ import annotations

import argparse

from datasets.files import local_path

TASKS = ("detection", "classification", "segmentation", "attributes", "embedding", "geolocation")
TARGETS = {"coco": "COCO", "yolo": "YOLO", "voc": "Pascal VOC", "webdataset": "WebDataset shards"}


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add --task, --format and --csv, which are looked for where they are not given."""
    parser.add_argument("--task", choices=TASKS, default="auto", help="kind of the data (default: detected)")
    parser.add_argument("--format", default="auto", help="of the data, as data.format of the task (default: detected)")
    parser.add_argument("--csv", metavar="FILE", help="the CSV file of places, relative to FOLDER (default: detected)")


def add_out(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The flags of verbs that write a data set."""
    parser.add_argument(
        "--out", type=local_path, required=required, metavar="NEW", help="folder to write, which must be new"
    )
    parser.add_argument("--copy", action="store_true", help="copy image files, for programs that change them in place")


def fraction(word: str) -> float:
    """A fraction between 0 and 1, from the command line."""
    value = float(word)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {word}")
    return value
