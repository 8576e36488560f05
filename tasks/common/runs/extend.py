"""Training a finished run further: a new run that starts from all weights of an earlier one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from backbone.build import default_conventions
from tasks.common.runs.checkpoint import BEST, exists, load_checkpoint, load_last
from tasks.common.runs.pretrained import without_pretrained
from tasks.common.runtime.distributed import World
from tasks.common.settings import CONFIG, read_config, replace_settings
from tasks.common.task import Task

AnyTask = TypeVar("AnyTask", bound=Task[Any])
LABELS = ("class_names", "attribute_names", "identities", "partitionings")  # metadata with an output for each entry


def extend_run(task: AnyTask, run: Path, world: World) -> tuple[AnyTask, Mapping[str, Tensor]]:
    """The task with the run's backbone, and the weights that the run ended with, of the whole network.

    The optimiser starts anew, with the whole schedule over the epochs of the new run (a warm restart: Loshchilov and
    Hutter 2017, arXiv:1608.03983); the settings are the run's, apart from those that the user has changed.

    Args:
        task: for the data.
        run: the folder of the earlier run.
        world: its first process prints a line.

    Raises:
        ValueError: if the run has another network or other classes than the task, or cannot be read.
    """
    backbone = read_config(type(task.config), run / CONFIG).backbone
    if task.config.backbone != backbone:
        raise ValueError(f"backbone: --extend keeps the one of {run}, {backbone.name}; for another start a new run")
    content = load_last(run, task.name) if exists(run) else load_checkpoint(run / BEST, task.name)
    for key in LABELS:
        if content["metadata"].get(key) != task.metadata.get(key):
            raise ValueError(
                f"--extend: the {key} of {run} are not those of the data; --pretrained {run} starts a run "
                "with those of the data from its weights"
            )
    weights = _evaluated(content)
    try:
        task.with_settings(without_pretrained(task.config)).build_model().load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).split("\n")[1].strip()
        raise ValueError(f"--extend: {run} does not fit the settings: {reason}") from error
    if world.is_main:
        print(f"training {run} further: {_describe(task, content)}", file=sys.stderr)
    conventions = backbone.conventions or default_conventions(backbone.name)
    return task.with_settings(
        replace_settings(task.config, {"pretrained": str(run), "backbone.conventions": conventions})
    ), weights


def _evaluated(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that were evaluated: the EMA's if there are any, without layers that only training uses."""
    state: dict[str, Tensor] = content["model"]
    if content.get("ema") is not None:
        state = {name.removeprefix("module."): value for name, value in content["ema"].items() if "module." in name}
    prefix = "network."  # of a `TrainingWrapper`
    network = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return network or state


def _describe(task: Task[Any], content: Mapping[str, Any]) -> str:
    """The start and the schedule of the new run, in a line."""
    optim, scores = task.config.optim, content["history"][-1] if "history" in content else content["metrics"]
    facts = [f"{name} {scores[name]:.4g}" for name in ("epoch", "loss", task.score_name) if name in scores]
    end = {"cosine": "falls to 0", "exponential": "falls by 6 % every 2 epochs", "constant": "stays there"}
    warmup = min(optim.warmup_epochs, optim.epochs)
    unit = "epoch" if warmup == 1 else "epochs"
    return (
        f"{optim.epochs} epochs from all its last weights ({', '.join(facts)}); the optimiser starts anew, so the "
        f"learning rate rises to {optim.lr:g} within {warmup:g} {unit}, then {end[optim.schedule]} (optim.lr, "
        "optim.warmup_epochs and optim.schedule change that)"
    )
