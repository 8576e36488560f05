"""Evaluations on record: one line of JSON each, with all that it takes to repeat them."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from tasks.common.cli import ROOT
from tasks.common.task import Task

MEASURED = ROOT / "results" / "measured.jsonl"


def append_record(task: Task[Any], metrics: Mapping[str, Any], split: str, path: Path = MEASURED) -> None:
    """Append a line: date, network, data, split, seed, command, machine and scores."""
    config = task.config
    entry = {
        "date": date.today().isoformat(),
        "task": task.name,
        "model": getattr(config, "model", None),
        "backbone": config.backbone.name,
        "input_size": config.data.input_size,
        "data": "the drawn sample" if config.data.root is None else Path(config.data.root).name,
        "split": split,
        "seed": config.seed,
        "command": shlex.join(["python", "-m", f"tasks.{task.name}", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "metrics": dict(metrics),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
