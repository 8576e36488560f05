"""Run folders: their files, how they are made, and which settings may change when a run is resumed."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from datasets.files import atomic_write, new_folder, whole_folder
from tasks.common.inference_task import InferenceTask
from tasks.common.settings import CONFIG, flatten, load_yaml

LOG, METRICS, CURVES, PICTURE = "log.csv", "metrics.json", "curves.png", "predictions.png"
LAUNCH = "launch_id"
_RUN_ID = "TORCHELASTIC_RUN_ID"  # environment variable set by torchrun
MIN_FREE_BYTES = 10**6  # where a command will write
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Settings without effect on the final weights.
RESUME_MAY_CHANGE = frozenset(
    {
        "data.root",
        "loop.device",
        "loop.num_threads",
        "loop.num_workers",
        "loop.checkpoint_minutes",
        "loop.loggers",
        "loop.backup",
        "loop.max_unreadable_fraction",
    }
)


def new_run(task: InferenceTask[Any], run_dir: str | None, *, restarted: Path | None = None) -> Path:
    """Make a run folder and write the task's settings and metadata to it.

    Args:
        task: to train.
        run_dir: the folder to make; None for one named by date and time.
        restarted: the folder of this run from before `torchrun` restarted its processes, if any.
    """
    run = restarted or make_run_folder(task.name, run_dir)
    write_launch_id(run)
    write_settings(dataclasses.asdict(task.config), run)
    task.write_metadata(run)
    return run


def make_run_folder(name: str, run_dir: str | None) -> Path:
    """Make the folder of a run of that name: `run_dir`, or one named by date and time."""
    if run_dir is not None:
        return make_folder(Path(run_dir), "--run_dir")
    return new_folder(Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S"))


def check_run_folder(name: str, run_dir: str | None, num_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise a ValueError unless `make_run_folder` can make a folder and files in it; leaves nothing behind.

    Args:
        name: see `make_run_folder`.
        run_dir: see `make_run_folder`.
        num_bytes: free space that is needed.
    """
    if run_dir is not None:
        check_new_folder(Path(run_dir), "--run_dir", num_bytes)
    else:
        check_writable(Path("runs") / name, "--run_dir", num_bytes)


def out_folder(task: InferenceTask[Any], default: str, *, out: str | None, run: str | None = None) -> Path:
    """Make the output folder of a command.

    Args:
        task: of the command.
        default: name of the folder if the user gives none; it is made in the run, or among the task's runs.
        out: folder given by the user.
        run: the run that the command reads; None for published weights.
    """
    return make_folder(Path(out), "--out") if out is not None else _default_folder(task, default, run)


@contextmanager
def whole_out_folder(
    task: InferenceTask[Any], default: str, *, out: str | None, run: str | None = None
) -> Iterator[tuple[Path, Path]]:
    """An output folder that is there in full or not at all; yields it, and under which name it is to be filled.

    Args:
        task: see `out_folder`.
        default: see `out_folder`.
        out: see `out_folder`.
        run: see `out_folder`.
    """
    if out is not None:
        _refuse_existing(Path(out), "--out")
    folder = Path(out) if out is not None else _default_folder(task, default, run)
    try:
        with whole_folder(folder) as temporary:
            yield folder, temporary
    except BaseException:
        if out is None:
            with suppress(OSError):  # the disk is gone
                folder.rmdir()  # it is empty, and kept the name
        raise


def _default_folder(task: InferenceTask[Any], default: str, run: str | None) -> Path:
    """A new folder in the run, or among the task's runs."""
    if run is not None:
        return new_folder(Path(run) / default)
    return new_folder(Path("runs") / task.name / f"{task.config.backbone.name}-{default}")


def check_out_folder(name: str, *, out: str | None, run: str | None = None) -> None:
    """Raise a ValueError unless `out_folder` can make a folder and files in it; leaves nothing behind.

    Args:
        name: of the task.
        out: see `out_folder`.
        run: see `out_folder`.
    """
    if out is not None:
        check_new_folder(Path(out), "--out")
    else:
        check_writable(Path(run) if run is not None else Path("runs") / name, "--out")


def make_folder(path: Path, flag: str) -> Path:
    """Make the folder given by a flag; it must not exist."""
    _refuse_existing(path, flag)
    path.mkdir(parents=True)
    return path


def check_new_folder(path: Path, flag: str, num_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise a ValueError unless the folder given by a flag can be made, see `check_writable`; leaves nothing behind."""
    _refuse_existing(path, flag)
    check_writable(path, flag, num_bytes)


def check_writable(path: Path, flag: str, num_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise a ValueError unless files can be written to a folder, which is made for that; leaves nothing behind.

    Args:
        path: the folder.
        flag: which names another one, for the message.
        num_bytes: free space that is needed.
    """
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    probe = path / f".{os.getpid()}.probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(4096))
        free = shutil.disk_usage(path).free
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{flag}: files cannot be written to {path} ({reason}); choose another folder") from error
    finally:
        with suppress(OSError):
            probe.unlink()
        for folder in missing:
            with suppress(OSError):  # not made, or another process uses it
                folder.rmdir()
    if free < num_bytes:
        raise ValueError(
            f"{flag}: {num_bytes / 1e6:.0f} MB are needed in {path}, but {free / 1e6:.1f} MB are free there; free some "
            "space or choose another folder"
        )


@contextmanager
def explain_full_disk(folder: Path, way_out: Callable[[], str]) -> Iterator[None]:
    """Turn an error of a full or read-only disk into one line.

    Args:
        folder: that the block writes to.
        way_out: says what to do once there is space.

    Raises:
        ValueError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (*_FULL, errno.EROFS):
            raise
        place = Path(os.fsdecode(error.filename)).parent if error.filename else folder
        if error.errno == errno.EROFS:
            state, remedy = f"the disk of {place} is read-only", "make it writable"
        else:
            existing = next((parent for parent in (place, *place.parents) if parent.is_dir()), folder)
            free = shutil.disk_usage(existing).free
            state, remedy = f"the disk of {place} is full ({free / 1e6:.1f} MB are free)", "free some space"
        raise ValueError(f"{state}: {error.strerror}; {remedy}, then {way_out()}") from error


def same_again() -> str:
    """What to do after `explain_full_disk` where nothing can be resumed."""
    return "run the command again with another --out"


def _refuse_existing(path: Path, flag: str) -> None:
    if os.path.lexists(path):
        raise ValueError(f"{flag}: {path} exists already and is not overwritten; choose another folder")


def write_settings(settings: dict[str, Any], run: Path) -> None:
    """Write the `config.yaml` of a run."""
    with atomic_write(run / CONFIG) as temporary:
        temporary.write_text(_as_yaml(settings), encoding="utf-8")


def _as_yaml(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=False)


def check_unchanged(settings: dict[str, Any], path: Path) -> None:
    """Raise a ValueError if a resumed run's settings differ from `path`, other than `RESUME_MAY_CHANGE`."""
    for key, value, saved in changed_settings(settings, path):
        raise ValueError(
            f"{key}: the run was started with {saved!r}, and --resume continues it exactly; to use {value!r}, "
            f"{_way_to_change(key, value, saved, path.parent)}"
        )


def changed_settings(settings: dict[str, Any], path: Path) -> Iterator[tuple[str, Any, Any]]:
    """The key, value and saved value of settings that differ from those in a file, other than `RESUME_MAY_CHANGE`."""
    saved = flatten(load_yaml(path))
    for key, value in flatten(yaml.safe_load(_as_yaml(settings))).items():
        if value != saved.get(key, value) and key not in RESUME_MAY_CHANGE:
            yield key, value, saved[key]


def shared_settings(settings: dict[str, Any]) -> dict[str, str]:
    """The settings, as text, that all processes of a run must have in common."""
    return {key: str(value) for key, value in flatten(settings).items() if key not in RESUME_MAY_CHANGE}


def _way_to_change(key: str, value: Any, saved: Any, run: Path) -> str:
    if key == "optim.epochs" and value > saved:
        return f"train it further in a new run: train --extend {quote(str(run))} --optim.epochs {value - saved}"
    return "start a new run"


def write_launch_id(run: Path) -> None:
    """Record the `torchrun` launch in a run folder, so that restarted processes find the folder."""
    if _RUN_ID in os.environ:
        with atomic_write(run / LAUNCH) as temporary:
            temporary.write_text(_launch_id(), encoding="utf-8")


def find_restarted_run(name: str, run_dir: str | None, *, is_restarted: bool) -> Path | None:
    """The run folder of this `torchrun` launch from before its processes were started again; None without one.

    Args:
        name: of the task, or distill.
        run_dir: as given by the user. With it, a new launch with the same `--rdzv-id` is the same one: a job that a
            cluster has started again.
        is_restarted: see `World`.
    """
    if _RUN_ID not in os.environ or not (is_restarted or run_dir):
        return None
    newest_first = sorted((Path("runs") / name).glob(f"*/{LAUNCH}"), reverse=True)
    files = [Path(run_dir) / LAUNCH] if run_dir else newest_first
    ids = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    return next((file.parent for file, launch_id in ids.items() if launch_id == _launch_id()), None)


def _launch_id() -> str:
    """The id given to `torchrun`; without one, its process id and start time."""
    run_id = os.environ[_RUN_ID]
    if run_id != "none":
        return run_id
    status = Path(f"/proc/{os.getppid()}/stat")  # the start time, since process ids are reused
    started = status.read_text(encoding="utf-8").rpartition(")")[2].split()[19] if status.is_file() else "?"
    return f"process {os.getppid()} started {started}"
