"""Checkpoints: written atomically, loaded with `weights_only`; the previous one is kept as a backup."""

from __future__ import annotations

import errno
import io
import reprlib
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbone.formats import CompressedFileError, refuse_compressed
from datasets.files import atomic_write
from tasks.common.legacy import upgrade_checkpoint
from tasks.registry import TASKS, check_metadata

EXTRA_STATE = "_extra_state"  # torch's name for what a module has besides its tensors
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


def save_last(run: Path, content: dict[str, Any]) -> None:
    """Write `last.pt`; the old one becomes `previous.pt`.

    Raises:
        OSError: if the disk is full; existing checkpoints are unchanged.
    """
    _save(content, run / LAST, backup=run / PREVIOUS)


def save_best(run: Path, content: dict[str, Any]) -> None:
    """Write `best.pt`.

    Raises:
        OSError: if the disk is full; an existing one is unchanged.
    """
    _save(content, run / BEST)


def exists(run: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (run / LAST).is_file() or (run / PREVIOUS).is_file()


def load_last(run: Path, task_name: str) -> dict[str, Any]:
    """The newest intact checkpoint.

    Raises:
        ValueError: if there is none, or it belongs to another task.
    """
    problems = []
    for name in (LAST, PREVIOUS):
        try:
            content = load_checkpoint(run / name, task_name)
        except DamagedCheckpointError as error:
            problems.append(str(error))
        else:
            for problem in problems:
                warnings.warn(f"{problem}; resuming from {run / name} instead", stacklevel=2)
            return content
    raise ValueError("; ".join(problems))


def load_checkpoint(path: Path, task_name: str | None = None) -> dict[str, Any]:
    """Load a checkpoint to the CPU.

    Args:
        path: the file.
        task_name: the expected task; None for any.

    Raises:
        ValueError: if it belongs to another task, or is compressed.
        DamagedCheckpointError: (a ValueError) if it is missing or cannot be read.
    """
    if not path.is_file():
        raise DamagedCheckpointError(f"{path}: no such checkpoint")
    try:
        refuse_compressed(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not verify checksums of tensor data
        if damaged is not None:
            raise DamagedCheckpointError(f"{path}: damaged checkpoint ({damaged})")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (DamagedCheckpointError, CompressedFileError, MemoryError):
        raise
    except Exception as error:  # of any type, when the file is no pickle
        raise DamagedCheckpointError(f"{path}: not a checkpoint, or a damaged one") from error
    return check_content(content, str(path), task_name)


def check_content(content: Any, origin: str, task_name: str | None = None) -> dict[str, Any]:
    """The content of a checkpoint, which may be anybody's, with current names.

    Args:
        content: as it was read.
        origin: for messages.
        task_name: the expected task; None for any of this suite.

    Raises:
        ValueError: if it belongs to another task, or its task, model or metadata are of no checkpoint.
    """
    task = content.get("task") if isinstance(content, Mapping) else None
    if not isinstance(task, str):
        raise ValueError(f"{origin}: not a checkpoint of this suite")
    if task not in (*TASKS, task_name):  # a module of this name is imported
        found = reprlib.repr(task)
        raise ValueError(f"{origin}: a checkpoint of the task {found}; expected one of {', '.join(TASKS)}")
    if task_name not in (None, task):
        raise ValueError(f"{origin}: a checkpoint of tasks.{task}, but this is tasks.{task_name}")
    try:
        checked: dict[str, Any] = upgrade_checkpoint(content)
    except (AttributeError, TypeError) as error:  # names that are no texts, rows that are no mappings
        raise ValueError(f"{origin}: not a checkpoint of this suite") from error
    model, metadata = checked.get("model"), checked.get("metadata")
    if not isinstance(model, dict) or not all(_is_state(name, value) for name, value in model.items()):
        raise ValueError(f"{origin}: not a checkpoint of this suite: its `model` is no state dict")
    if not isinstance(metadata, dict):
        raise ValueError(f"{origin}: not a checkpoint of this suite: its `metadata` is no mapping")
    check_metadata(task, metadata, origin)
    return checked


def _is_state(name: str, value: object) -> bool:
    """Whether this is a tensor, or a module's extra state: several, such as the gallery of a retrieval network."""
    if name.rpartition(".")[2] == EXTRA_STATE and isinstance(value, dict):
        return all(isinstance(tensor, Tensor) for tensor in value.values())
    return isinstance(value, Tensor)


def check_is_there(run: Path) -> None:
    """Raise an OSError if a run folder has vanished: writing would make it anew, with less than a run has."""
    if not run.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the run folder is gone; put it back, and resume", str(run))


def _save(content: dict[str, Any], path: Path, *, backup: Path | None = None) -> None:
    check_is_there(path.parent)
    # torch reports a full disk by a RuntimeError about positions in the file; a file of our own raises the OSError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path, backup=backup) as temporary:
        temporary.write_bytes(buffer.getbuffer())


class DamagedCheckpointError(ValueError):
    """A checkpoint that is missing or cannot be read."""
