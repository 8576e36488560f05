"""The scores of a model on images with their truth: what `Model.evaluate` and the verb `evaluate` have in common."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from datasets.sources import Source
from datasets.types import Split
from tasks.common.deploy.exported import ExportedPredictor
from tasks.common.evaluation.exported import evaluate_exported
from tasks.common.evaluation.failure_cases import FailureCases
from tasks.common.evaluation.report import metrics_as_json
from tasks.common.evaluation.scoring import Evaluation, warn_about_data
from tasks.common.inference_task import InferenceTask
from tasks.common.settings import replace_settings

if TYPE_CHECKING:
    from tasks.common.runtime.distributed import World

T = TypeVar("T")


def evaluate_model(
    task: InferenceTask[Any], predictor: Any, data: str | Path | None, split: Split
) -> dict[str, float | None]:
    """The scores and counts of a model, see `Model.evaluate`."""
    if split not in get_args(Split):
        raise ValueError(f"split: expected {', '.join(get_args(Split))}, got {split!r}")
    if data is not None:
        config = replace_settings(task.config, {"data.root": str(data)})
        task = type(task)(config, task.metadata)  # not `with_settings`, which keeps the data that are open
        predictor = dataclasses.replace(predictor, task=task)
    source = task.source(split)
    warn_about_data(source)
    evaluation = score(predictor, source)
    return metrics_as_json(evaluation.scores, evaluation.counts)


def score(
    predictor: Any, source: Source[T], failure_cases: FailureCases[T] | None = None, world: World | None = None
) -> Evaluation[T]:
    """Evaluate a model on a source, with a progress bar.

    Args:
        predictor: of the model: an `ExportedPredictor` or a `TorchPredictor`.
        source: the images and their truth.
        failure_cases: updated with the model's.
        world: the processes that share the images; None for this one alone.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_fraction` allows.
    """
    if isinstance(predictor, ExportedPredictor):
        if world is not None:
            raise ValueError("an exported network is evaluated by one process; start the command without torchrun")
        return evaluate_exported(predictor, source, "evaluating", failure_cases=failure_cases)
    from tasks.common.evaluation.evaluate import evaluate_source  # torch is slow to import
    from tasks.common.runtime.distributed import SINGLE_PROCESS

    return evaluate_source(
        predictor.task,
        predictor.network,
        source,
        "evaluating",
        world=world or SINGLE_PROCESS,
        failure_cases=failure_cases,
    )
