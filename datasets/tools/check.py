"""`python -m datasets check`."""

from __future__ import annotations

import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb besides FOLDER and --json, which the frame adds (`datasets/tools/cli.py`)."""


def check(options: argparse.Namespace) -> int:
    """Run the verb on `options.folder`; returns the exit status."""
    raise ValueError("not written yet")
