"""Checkpoints: written whole or not at all, read without unpickling, with the one before kept for a bad day."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from datasets.files import atomic_write

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


def save_last(run: Path, content: dict[str, Any]) -> None:
    """Write `last.pt`; what it was becomes `previous.pt`."""
    with atomic_write(run / LAST) as temporary:
        torch.save(content, temporary)
        if (run / LAST).exists():
            os.replace(run / LAST, run / PREVIOUS)


def save_best(run: Path, content: dict[str, Any]) -> None:
    """Write `best.pt`."""
    with atomic_write(run / BEST) as temporary:
        torch.save(content, temporary)


def load_last(run: Path, task_name: str) -> dict[str, Any]:
    """The newest checkpoint that is whole.

    Raises:
        ValueError: if there is none, or it is of another task.
    """
    problems = []
    for name in (LAST, PREVIOUS):
        try:
            content = load_checkpoint(run / name, task_name)
        except DamagedCheckpointError as error:
            problems.append(str(error))
        else:
            for problem in problems:
                warnings.warn(f"{problem}; going on from {run / name} instead", stacklevel=2)
            return content
    raise ValueError("; ".join(problems))


def load_checkpoint(path: Path, task_name: str | None = None) -> dict[str, Any]:
    """One checkpoint, on the CPU.

    Args:
        path: the file.
        task_name: the task that it must be of; None for any.

    Raises:
        ValueError: if it is of another task.
        DamagedCheckpointError: (a ValueError) if it is missing or cannot be read.
    """
    if not path.is_file():
        raise DamagedCheckpointError(f"{path}: there is no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not compare checksums of tensor data
        if damaged is not None:
            raise DamagedCheckpointError(f"{path}: damaged checkpoint ({damaged})")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise DamagedCheckpointError(f"{path}: not a checkpoint, or a damaged one") from error
    if not isinstance(content, dict) or "task" not in content:
        raise ValueError(f"{path}: not a checkpoint of this suite")
    if task_name not in (None, content["task"]):
        raise ValueError(f"{path}: a checkpoint of tasks.{content['task']}, but this is tasks.{task_name}")
    return content


class DamagedCheckpointError(ValueError):
    """A checkpoint that is missing or cannot be read."""
