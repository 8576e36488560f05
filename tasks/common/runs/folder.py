"""Run folders: what is in them, how they are made, and when one may go on."""

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
_RUN_ID = "TORCHELASTIC_RUN_ID"  # in the environment under torchrun
# Settings without any effect on the weights that a run ends with.
RESUME_MAY_CHANGE = frozenset(
    {"data.root", "loop.device", "loop.num_workers", "loop.checkpoint_minutes", "loop.max_unreadable_fraction"}
)


def new_run(task: Task[Any], run_dir: str | None, *, restarted: Path | None = None) -> Path:
    """A run folder with the task's settings in it, and what its outputs stand for.

    Args:
        task: that is trained.
        run_dir: to make; None for one by date and time.
        restarted: the folder that these processes had begun before they were started again, if any.
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
    """A new folder for what a verb leaves: the one that the user names, or one in the run, or one where runs are.

    Args:
        task: whose verb it is.
        default: name of the folder where the user names none.
        out: that the user names.
        run: the run that the verb reads; None where it reads published weights.
    """
    if out is not None:
        return make_folder(Path(out), "--out")
    if run is not None:
        return new_folder(Path(run) / default)
    return new_folder(Path("runs") / task.name / f"{task.config.backbone.name}-{default}")


def make_folder(path: Path, flag: str) -> Path:
    """The folder that a flag names, which must not exist yet."""
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise ValueError(f"{flag}: {path} exists already, and nothing in it is overwritten; name another") from error
    return path


def write_settings(settings: dict[str, Any], run: Path) -> None:
    """The `config.yaml` of a run."""
    with atomic_write(run / CONFIG) as temporary:
        temporary.write_text(_as_yaml(settings), encoding="utf-8")


def _as_yaml(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=False)


def check_unchanged(settings: dict[str, Any], path: Path) -> None:
    """A run that is resumed ends as if it had never stopped, so only how it runs and where its data are may change."""
    saved = flatten(load_yaml(path))
    for key, value in flatten(yaml.safe_load(_as_yaml(settings))).items():
        if value != saved.get(key, value) and key not in RESUME_MAY_CHANGE:
            raise ValueError(
                f"{key}: the run was made with {saved[key]!r}, and --resume continues it exactly; to change it to "
                f"{value!r} start a new run"
            )


def write_launch_id(run: Path) -> None:
    """Write down which `torchrun` a run folder is of, so that processes which it starts again find the folder."""
    if _RUN_ID in os.environ:
        with atomic_write(run / LAUNCH) as temporary:
            temporary.write_text(_launch_id(), encoding="utf-8")


def find_restarted_run(name: str, run_dir: str | None) -> Path | None:
    """The run folder that these processes made before `torchrun --max-restarts` started them again; else None."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    newest_first = sorted((Path("runs") / name).glob(f"*/{LAUNCH}"), reverse=True)
    files = [Path(run_dir) / LAUNCH] if run_dir else newest_first
    ids = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    return next((file.parent for file, launch_id in ids.items() if launch_id == _launch_id()), None)


def _launch_id() -> str:
    """The id that the user gave `torchrun`, or else its process, which starts the others again."""
    run_id = os.environ[_RUN_ID]
    if run_id != "none":
        return run_id
    status = Path(f"/proc/{os.getppid()}/stat")  # another process may have had the same number before
    started = status.read_text(encoding="utf-8").rpartition(")")[2].split()[19] if status.is_file() else "?"
    return f"process {os.getppid()} started {started}"
