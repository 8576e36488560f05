"""A log of evaluations (`evaluate --record`): one line of JSON each, with the command and settings to repeat it."""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from tasks.common.runtime.repository import ROOT
from tasks.common.settings import flatten

MEASURED = ROOT / "results" / "measured.jsonl"


def append_record(task_name: str, config: Any, metrics: Mapping[str, Any], split: str, path: Path = MEASURED) -> None:
    """Append a line: date, task, data, split, command, machine, settings and scores.

    Args:
        task_name: of the task.
        config: the evaluation's settings; with `--run` those that the run was trained with.
        metrics: scores and counts.
        split: that was evaluated.
        path: the JSON Lines file.
    """
    entry = {
        "date": date.today().isoformat(),
        "task": task_name,
        "data": "the drawn sample" if config.data.root is None else Path(config.data.root).name,
        "split": split,
        "command": shlex.join(["python", "-m", f"tasks.{task_name}", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "metrics": dict(metrics),
        "settings": flatten(dataclasses.asdict(config)),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
