"""The setting `threshold`: a number, or a rule that is looked up in a run's table of thresholds."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from shlex import quote
from typing import Any

from tasks.common.settings import replace_settings
from tasks.common.thresholds import THRESHOLDS, OperatingPoint, read_pooled


def resolve_threshold(threshold: float | str, run: Path | str | None) -> float:
    """The number that a threshold stands for.

    Args:
        threshold: a number, or a rule: `f1`, `precision=0.9` or `recall=0.8`, see `ThresholdCounts.choose`.
        run: folder of a run or an export; None if there is none.

    Raises:
        ValueError: if the run has no table of thresholds, or no threshold in it satisfies the rule.
    """
    return float(threshold) if not isinstance(threshold, str) else _look_up(threshold, run)[0].threshold


def with_threshold(config: Any, run: Path | str | None) -> Any:
    """The settings with a number as their threshold, if they have one; a line says which a rule has chosen.

    Raises:
        ValueError: see `resolve_threshold`.
    """
    rule = getattr(config, "threshold", None)
    if not isinstance(rule, str):
        return config
    point, table = _look_up(rule, run)
    print(
        f"threshold {point.threshold:g} for {rule}: precision {point.precision:.3f}, recall {point.recall:.3f} in "
        f"{table}",
        file=sys.stderr,
    )
    return replace_settings(config, {"threshold": point.threshold})


def copy_table(run: Path | str, folder: Path) -> None:
    """Copy the table of thresholds of a run, if it has one, to the folder of its export."""
    table = newest_table(Path(run))
    if table is not None:
        shutil.copyfile(table, folder / THRESHOLDS)


def _look_up(rule: str, run: Path | str | None) -> tuple[OperatingPoint, Path]:
    """The operating point of a rule, and the file that it is from."""
    if run is None:
        raise ValueError(f"threshold: {rule} is looked up in a run's {THRESHOLDS}, and there is no run; give a number")
    table = newest_table(Path(run))
    if table is None:
        raise ValueError(
            f"threshold: {rule} is looked up in {THRESHOLDS}, which {run} does not have; evaluate --run "
            f"{quote(str(run))} writes it"
        )
    counts = read_pooled(table)
    point = counts.choose(rule)
    if point is not None:
        return point, table
    score = rule.partition("=")[0]
    best = counts.highest(score) if counts.true_positives.any() else None
    if best is None:
        raise ValueError(f"threshold: {rule}: no object is found at any threshold in {table}; give a number")
    raise ValueError(
        f"threshold: {rule} is not reached in {table}, where the highest {score} is {getattr(best, score):.3f}, at "
        f"{best.threshold:g}; give a number or a lower {score}"
    )


def newest_table(run: Path) -> Path | None:
    """The table that was written last: by training, an export, or an evaluation on the validation images."""
    tables = [run / THRESHOLDS, *sorted(run.glob(f"evaluate-val*/{THRESHOLDS}"))]
    return max((table for table in tables if table.is_file()), key=lambda table: table.stat().st_mtime_ns, default=None)
