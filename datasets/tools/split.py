"""`python -m datasets split FOLDER --val_fraction 0.2`: divide data into train, val and test."""

from __future__ import annotations

import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb besides FOLDER and --json."""


def split(options: argparse.Namespace) -> int:
    """Run the verb on `options.folder`; returns the exit status."""
    raise ValueError("not written yet")
