"""`python -m results ablate`: what the parts of MobileNet are worth, at equal data, training steps and seeds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from backbone.build import build_backbone
from backbone.cost import count_cost
from backbone.names import BackboneName, parse_name
from results.ablate_report import AblatedRow, measure, write
from results.ablate_rows import ROWS
from results.study import CELLS, Step, deadline_after, read_shared_settings, save_shared_settings, status_of
from tasks.common.settings import CONFIG, replace_settings
from tasks.registry import task_class

STUDY = "ablate.json"
OWN_FLAGS = {"backbone.channels": "--backbone.name", "seed": "--seeds"}
MAX_WIDER = 4  # than the counterpart, of a row with equal mult-adds or parameters


def ablate(
    task_name: str,
    out: Path,
    settings: Sequence[str],
    *,
    rows: Sequence[str],
    num_seeds: int = 3,
    budget_minutes: float | None = None,
) -> int:
    """Train the missing networks of an ablation, and write its table and plot into `out`.

    Args:
        task_name: of the task.
        out: folder; an ablation that is in it is resumed.
        settings: of the task's training, as command-line words; those of every row. `backbone.name` is the base.
        rows: see `ROWS`; the counterparts of these are trained, too.
        num_seeds: each row is trained with the seeds 0, 1, ...
        budget_minutes: no training is started after this time.

    Returns:
        The exit status: 0, or 3 if something is left.

    Raises:
        ValueError: if a training fails, no row is possible, or the folder has an ablation with other settings.
    """
    chosen = _with_counterparts(rows)
    config = read_shared_settings(task_name, settings, OWN_FLAGS)
    base = _base(config)
    networks = {row: network_name(row, base.width_mult, config.data.input_size) for row in chosen}
    notes = {row: _why_impossible(task_name, config, networks[row]) for row in chosen}
    possible = [row for row in chosen if not notes[row]]
    if not possible:
        raise ValueError(f"{chosen[0]}: {notes[chosen[0]]}; none of the rows is possible")
    save_shared_settings(out / STUDY, {"task": task_name}, config)
    deadline = deadline_after(budget_minutes)
    num_left = 0
    for seed in range(num_seeds):
        for row in possible:
            words = ["--config", str(out / CONFIG), "--seed", str(seed), "--backbone.name", networks[row]]
            step = Step((f"tasks.{task_name}", "train"), words, _folder(out, row, seed))
            num_left += not step.make(f"{row}, seed {seed}: {networks[row]}", deadline)
    results = [
        AblatedRow(row=row, network=networks[row], counterpart=ROWS[row].counterpart, note=notes[row]) for row in chosen
    ]
    measure(results, task_name, {row: [_folder(out, row, seed) for seed in range(num_seeds)] for row in chosen})
    write(results, task_name, out)
    return status_of(num_left, num_seeds * len(possible), "networks")


def network_name(row: str, width_mult: float, input_size: int) -> str:
    """The backbone of a row.

    Args:
        row: of the ablation.
        width_mult: of the base.
        input_size: in pixels, at which mult-adds are equal.
    """
    prefix, suffix, equal = ROWS[row].prefix, ROWS[row].suffix, ROWS[row].equal
    if equal is None:
        return f"{prefix}_{width_mult:g}{suffix}"

    def cost_of(name: str) -> int:
        images = torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8, device="meta")
        with torch.device("meta"):
            return int(getattr(count_cost(build_backbone(name), images), equal))

    wanted = cost_of(network_name(ROWS[row].counterpart, width_mult, input_size))
    names = [f"{prefix}_{width / 1000:g}{suffix}" for width in range(1, int(MAX_WIDER * 1000 * width_mult))]
    first = bisect_left(names, wanted, key=cost_of)
    return min(names[max(first - 1, 0) : first + 1], key=lambda name: abs(cost_of(name) - wanted))


def _why_impossible(task_name: str, config: Any, network: str) -> str:
    """Why the task cannot have a network on that backbone; empty if it can."""
    try:
        of_row = replace_settings(config, {"backbone.name": network})
        task_class(task_name).with_num_classes(of_row, None).build_model()
    except ValueError as error:
        return str(error)
    return ""


def _with_counterparts(rows: Sequence[str]) -> list[str]:
    """The rows in the order of `ROWS`, and those that they are compared with.

    Raises:
        ValueError: if there is no such row.
    """
    for row in rows:
        if row not in ROWS:
            raise ValueError(f"--rows: there is no row {row!r}; expected {', '.join(ROWS)}")
    wanted = {*rows, *(ROWS[row].counterpart for row in rows)}
    return [row for row in ROWS if row in wanted]


def _base(config: Any) -> BackboneName:
    """The backbone that is varied.

    Raises:
        ValueError: if the rows do not exist for it, or it is not trained from random weights.
    """
    name = config.backbone.name
    parsed = parse_name(name)
    if replace(parsed, input_size=None) != BackboneName(parsed.width_mult) or config.backbone.channels is not None:
        raise ValueError(f"backbone.name: expected MobileNet v1 as in Table 1, such as mobilenet_0.5, got {name}")
    if config.pretrained != "none":
        raise ValueError(
            f"pretrained: expected none, got {config.pretrained}; all rows start from random weights, since most of "
            "these networks have no others"
        )
    return parsed


def _folder(out: Path, row: str, seed: int) -> Path:
    return out / CELLS / f"{row}_{seed}"
