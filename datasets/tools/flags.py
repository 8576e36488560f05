"""The flags of the verbs that take data of any kind."""

from __future__ import annotations

import argparse

TASKS = ("detection", "classification", "attributes", "embedding", "geolocation")


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add --task, --format and --csv, which are looked for where they are not given."""
    parser.add_argument("--task", choices=TASKS, default="auto", help="kind of the data (default: look what they are)")
    parser.add_argument("--format", default="auto", help="of the data, as data.format of the task (default: look)")
    parser.add_argument("--csv", metavar="FILE", help="the CSV file of places, relative to FOLDER (default: look)")
