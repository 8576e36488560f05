"""Trained weights of a whole task model: of a run of this suite, or as others published them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

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


def is_model_of(weights: Weights | None, task: str) -> TypeGuard[TaskWeights]:
    """Whether the weights are those of a whole model of a task, by its name."""
    return isinstance(weights, TaskWeights) and weights.task == task
