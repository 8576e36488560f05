"""A log of evaluations (`evaluate --record FILE`): one JSON line each, with the command and settings to repeat it."""

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

from tasks.common.settings import flatten


def append_record(path: Path, task_name: str, config: Any, metrics: Mapping[str, Any], split: str) -> None:
    """Append a line: date, task, data, split, command, machine, settings and scores.

    Args:
        path: the JSON Lines file.
        task_name: of the task.
        config: the evaluation's settings; with `--run`, the run's training settings.
        metrics: scores and counts.
        split: the evaluated split.
    """
    import torch  # slow to import

    entry = {
        "date": date.today().isoformat(),
        "task": task_name,
        "data": "the generated sample" if config.data.root is None else Path(config.data.root).name,
        "split": split,
        "command": shlex.join(["python", "-m", f"tasks.{task_name}", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "metrics": dict(metrics),
        "settings": flatten(dataclasses.asdict(config)),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
