"""`models`: the published models of a task."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich.console import Console

from tasks.common.cli.parser import Arguments
from tasks.common.published import FACE_DETECTORS, FACE_TASKS, MISSING, PUBLISHED_MODELS, PublishedModel


def models(task: str, arguments: Arguments) -> int:
    """Print the published models of a task, and how to use one."""
    rows = [row for row in PUBLISHED_MODELS if row.task == task]
    detectors = FACE_DETECTORS if task in FACE_TASKS else ()
    if arguments.options["json"]:
        print(json.dumps([dataclasses.asdict(row) for row in (*rows, *detectors)], indent=2))
        return 0
    console = Console(soft_wrap=True, highlight=False)
    for row in (*rows, *detectors):
        console.print(_describe(row), markup=False)
    if task in MISSING:
        console.print(MISSING[task], markup=False)
    if rows:
        flags = f"--pretrained {rows[0].name}" + (f" --data.align {detectors[0].name}" if detectors else "")
        console.print(f"use one: python -m tasks.{task} predict {flags} photo.jpg", markup=False)
    return 0


def _describe(row: PublishedModel) -> str:
    facts: dict[str, Any] = {
        "network": row.architecture,
        "trained on": row.trained_on,
        "score": row.score,
        "input": row.preprocessing,
        "licence": row.licence,
        "from": row.url,
        "file": row.file,
        "SHA-256": row.sha256 or "not published: that of the first download is stored, and later files must match it",
    }
    return "\n".join([row.name, *(f"    {title:<12}{fact}" for title, fact in facts.items()), ""])
