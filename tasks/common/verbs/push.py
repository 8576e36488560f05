"""`push`: upload a run to the Hugging Face Hub."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.common.cli.parser import Arguments
from tasks.common.runs.card import HUB
from tasks.common.runs.hub import push_run
from tasks.common.runs.load import identify_run


def push(name: str, arguments: Arguments) -> int:
    """Upload the best model of a run, its settings and its card; print the address."""
    options = arguments.options
    run, repo = Path(options["run"]), options["repo"]
    _, metadata = identify_run(run, name)
    if metadata.get("identities"):
        num_people = len(metadata["identities"])
        print(f"note: the upload has the names of the {num_people} people in the training photos", file=sys.stderr)
    if metadata.get("guesses"):
        print("note: the upload has coordinates of training photos, with a gallery of all of them", file=sys.stderr)
    print(push_run(run, repo, is_private=options["private"]))
    print(f"use it: python -m tasks.{name} predict --pretrained {HUB}{repo} photo.jpg", file=sys.stderr)
    return 0
