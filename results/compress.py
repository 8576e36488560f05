"""`python -m results compress`: which way to a small network, at equal training steps and the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from results.compress_report import measure, write
from results.compress_rows import NETWORKS, PRECISIONS, ROWS
from results.compress_runtimes import check_columns
from results.compress_steps import Study, mult_adds_fraction
from results.study import CommandError, deadline_after, read_shared_settings, save_shared_settings, status_of
from tasks.common.settings import replace_settings

STUDY = "compress.json"
OWN_FLAGS = {"backbone.name": "--student and --teacher", "backbone.channels": "--student", "seed": "--seeds"}


def compress(
    task_name: str,
    student: str,
    teacher: str,
    out: Path,
    settings: Sequence[str],
    *,
    teacher_pretrained: str | None = None,
    rows: Sequence[str],
    num_seeds: int = 1,
    budget_minutes: float | None = None,
    runtimes: Sequence[str],
) -> int:
    """Make the missing networks of a study, and write its table and plot into `out`.

    Args:
        task_name: of the task.
        student: name of the small backbone.
        teacher: name of the large one, which teaches, and is pruned to the student's mult-adds.
        out: folder; a study that is in it is resumed.
        settings: of the task's training, as command-line words; those of every row.
        teacher_pretrained: weights that the teacher starts from; None for those of the settings.
        rows: see `ROWS`.
        num_seeds: each row is made with the seeds 0, 1, ...
        budget_minutes: no command is started after this time.
        runtimes: that measure latency; see `check_columns`.

    Returns:
        The exit status: 0, or 3 if something is left.

    Raises:
        ValueError: if a training fails, a runtime is not installed, or the folder has a study with other settings.
    """
    _check_rows(rows)
    runtimes = check_columns(runtimes)
    study = _open_study(task_name, student, teacher, out, settings, teacher_pretrained)
    failed = {row: reason for row in rows if (reason := study.missing(row))}
    deadline = deadline_after(budget_minutes)
    num_left = 0
    for seed in range(num_seeds):
        for row in rows:
            if row not in failed and not _make(study, row, seed, deadline, failed):
                num_left += 1
    results = measure(study, rows, num_seeds, failed, runtimes)
    write(results, study, runtimes)
    return status_of(num_left, num_seeds * len(rows), "networks")


def _make(study: Study, row: str, seed: int, deadline: float, failed: dict[str, str]) -> bool:
    """Run the commands of a row that have not been run; returns whether there was time for all of them.

    What a row cannot have, such as a pruned MobileNet v2, is known when its command fails; the reason is recorded. A
    training that fails ends the study.
    """
    for step in study.steps(row, seed):
        try:
            if not step.make(f"{row}, seed {seed}: {step.folder.name}", deadline):
                return False
        except CommandError as error:
            if step.command[-1] in ("train", "distill"):
                raise
            failed[row] = error.reason
            return True
    return True


def _check_rows(rows: Sequence[str]) -> None:
    for row in rows:
        if row not in ROWS:
            raise ValueError(
                f"--rows: there is no row {row!r}; expected {', '.join(NETWORKS)}, or one of them with "
                f"{' or '.join(f'+{precision}' for precision in PRECISIONS)}"
            )


def _open_study(
    task_name: str, student: str, teacher: str, out: Path, settings: Sequence[str], teacher_pretrained: str | None
) -> Study:
    """Save the settings that all rows share, which must be those of an earlier study in the folder."""
    config = read_shared_settings(task_name, settings, OWN_FLAGS)
    config = replace_settings(config, {"backbone.name": student, "backbone.channels": None})
    pretrained = config.pretrained
    study = Study(
        task=task_name,
        folder=out,
        student=student,
        teacher=teacher,
        pretrained=pretrained,
        teacher_pretrained=teacher_pretrained or pretrained,
        mult_adds=mult_adds_fraction(task_name, config, student, teacher),
    )
    of_rows = {"task": task_name, "student": student, "teacher": teacher, "weights": study.teacher_pretrained}
    save_shared_settings(out / STUDY, of_rows, config)
    return study
