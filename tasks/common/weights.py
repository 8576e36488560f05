"""Trained weights of a whole task model: of a run of this suite, or as others published them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from backbone.layers import Normalize
from backbone.weights import Weights


@dataclass(frozen=True, kw_only=True)
class TaskWeights(Weights):
    """Trained weights of a task's network, with all that building it and decoding its outputs needs.

    Attributes:
        task: name of the task.
        metadata: of the model (label map, ...), see `Task`.
        settings: by dotted key, such as `ssd.neck`: what the network was built with where that differs from the
            defaults.
    """

    task: str
    metadata: Mapping[str, Any]
    settings: Mapping[str, Any]

    def check_rows(self, name: str, num_rows: int, names: Sequence[str]) -> None:
        """Raise a ValueError if a tensor does not have a row for each of the label map's names."""
        if num_rows != len(names):
            raise ValueError(
                f"{self.origin}: its label map does not fit its network: expected {len(names)} rows of {name}, found "
                f"{num_rows}; train or download it again"
            )


def is_model_of(weights: Weights | None, task: str) -> TypeGuard[TaskWeights]:
    """Whether the weights are those of a whole model of a task, by its name."""
    return isinstance(weights, TaskWeights) and weights.task == task


def complete_state(path: Path, weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The state dict of a network with published weights, which lack its normalisation and batch counters.

    Args:
        path: of the published file, for messages.
        weights: by the network's names.
        network: on any device, such as `meta`; has a backbone.

    Raises:
        ValueError: if a weight is missing, unexpected, or of another shape.
    """
    normalize = Normalize(network.backbone.conventions)  # type: ignore[union-attr, arg-type]
    given = {**weights, **{f"backbone.normalize.{name}": value for name, value in normalize.state_dict().items()}}
    expected = network.state_dict()
    for name in given:
        if name not in expected:
            raise ValueError(f"{path}: made for another network: unexpected weight {name}")
    state = {}
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
        elif name not in given:
            raise ValueError(f"{path}: not the whole network: it has no {name}")
        elif given[name].shape != tensor.shape:
            shapes = f"{tuple(given[name].shape)}, but {tuple(tensor.shape)} is expected"
            raise ValueError(f"{path}: made for another network: {name} is {shapes}")
        else:
            state[name] = given[name]
    return state


def rows_by_name(names: Sequence[str], given_names: Sequence[str]) -> dict[int, int]:
    """The row of each name among the given ones, by its own row; without those that are not there."""
    row_of = {name: row for row, name in enumerate(given_names)}
    return {row: row_of[name] for row, name in enumerate(names) if name in row_of}


@torch.no_grad()
def copy_part(
    state: Mapping[str, Tensor], given: Mapping[str, Tensor], rows: Mapping[int, int], by_row: Collection[str]
) -> list[str]:
    """Copy a part of a network into that of another one in place, if all of its tensors are there and fit.

    Args:
        state: of the part; is updated.
        given: tensors by the same names, and perhaps others.
        rows: row of `state` -> row of `given`, see `rows_by_name`; other rows stay as they are.
        by_row: names of the tensors with a row for each name; of these only `rows` are copied.

    Returns:
        The names of the tensors that were copied; none if one is missing or has another shape.
    """
    for name, tensor in state.items():
        free = int(name in by_row)  # leading dimensions that may differ
        if name not in given or given[name].shape[free:] != tensor.shape[free:]:
            return []
    copied = [name for name in state if rows or name not in by_row]
    for name in copied:
        if name in by_row:
            state[name][list(rows)] = given[name][list(rows.values())].to(state[name])
        else:
            state[name].copy_(given[name])
    return copied
