"""Run folders: their files, how they are made, and which settings may change when a run is resumed."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import yaml

from datasets.files import atomic_write, new_folder
from tasks.common.settings import CONFIG, flatten, load_yaml
from tasks.common.task import Task

LOG, METRICS, CURVES, PICTURE = "log.csv", "metrics.json", "curves.png", "predictions.png"
LAUNCH = "launch_id"
_RUN_ID = "TORCHELASTIC_RUN_ID"  # environment variable set by torchrun
# Settings without effect on the final weights.
RESUME_MAY_CHANGE = frozenset(
    {"data.root", "loop.device", "loop.num_workers", "loop.checkpoint_minutes", "loop.max_unreadable_fraction"}
)


def new_run(task: Task[Any], run_dir: str | None, *, restarted: Path | None = None) -> Path:
    """Make a run folder and write the task's settings and metadata to it.

    Args:
        task: to train.
        run_dir: the folder to make; None for one named by date and time.
        restarted: the folder of this run from before `torchrun` restarted its processes, if any.
    """
    if restarted is not None:
        run = restarted
    elif run_dir is not None:
        run = make_folder(Path(run_dir), "--run_dir")
    else:
        run = new_folder(Path("runs") / task.name / time.strftime("%Y-%m-%d_%H-%M-%S"))
    write_launch_id(run)
    write_settings(dataclasses.asdict(task.config), run)
    task.write_metadata(run)
    return run


def out_folder(task: Task[Any], default: str, *, out: str | None, run: str | None = None) -> Path:
    """Make the output folder of a command.

    Args:
        task: of the command.
        default: name of the folder if the user gives none; it is made in the run, or among the task's runs.
        out: folder given by the user.
        run: the run that the command reads; None for published weights.
    """
    if out is not None:
        return make_folder(Path(out), "--out")
    if run is not None:
        return new_folder(Path(run) / default)
    return new_folder(Path("runs") / task.name / f"{task.config.backbone.name}-{default}")


def make_folder(path: Path, flag: str) -> Path:
    """Make the folder given by a flag; it must not exist."""
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise ValueError(f"{flag}: {path} exists already and is not overwritten; choose another folder") from error
    return path


def write_settings(settings: dict[str, Any], run: Path) -> None:
    """Write the `config.yaml` of a run."""
    with atomic_write(run / CONFIG) as temporary:
        temporary.write_text(_as_yaml(settings), encoding="utf-8")


def _as_yaml(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=False)


def check_unchanged(settings: dict[str, Any], path: Path) -> None:
    """Raise a ValueError if a resumed run's settings differ from `path`, other than `RESUME_MAY_CHANGE`."""
    saved = flatten(load_yaml(path))
    for key, value in flatten(yaml.safe_load(_as_yaml(settings))).items():
        if value != saved.get(key, value) and key not in RESUME_MAY_CHANGE:
            raise ValueError(
                f"{key}: the run was started with {saved[key]!r}, and --resume continues it exactly; to use {value!r}, "
                "start a new run"
            )


def write_launch_id(run: Path) -> None:
    """Record the `torchrun` launch in a run folder, so that restarted processes find the folder."""
    if _RUN_ID in os.environ:
        with atomic_write(run / LAUNCH) as temporary:
            temporary.write_text(_launch_id(), encoding="utf-8")


def find_restarted_run(name: str, run_dir: str | None) -> Path | None:
    """The run folder of this `torchrun` launch from before a restart (`--max-restarts`); None without one."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
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
