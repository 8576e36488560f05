"""The files of a run whose weights were not made by the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from datasets.files import write_json
from datasets.sources import Source
from tasks.common.evaluation.evaluate import TorchPredictor
from tasks.common.evaluation.report import metrics_as_json
from tasks.common.evaluation.scoring import draw_examples
from tasks.common.evaluation.thresholds import write_table
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import METRICS, PICTURE
from tasks.common.task import Task
from tasks.common.thresholds import ThresholdCounts


def write_result(
    task: Task[Any],
    model: nn.Module,
    source: Source[Any],
    run: Path,
    *,
    scores: Mapping[str, float],
    counts: Mapping[str, int],
    classes: Sequence[ThresholdCounts],
) -> None:
    """Write weights, scores, the table of thresholds and pictures to a run folder.

    Args:
        task: of the model.
        model: in evaluation mode.
        source: the images of the pictures.
        run: an existing folder with the settings.
        scores: by name; none without validation images.
        counts: the numbers of images.
        classes: the counts of each class by threshold.
    """
    content = {"model": model.state_dict(), "metrics": scores, "counts": counts}
    checkpoint.save_best(run, {"task": task.name, "metadata": dict(task.metadata)} | content)
    write_table(classes, run)
    write_json(run / METRICS, metrics_as_json(scores, counts))
    draw_examples(task, TorchPredictor(task, model), source, run / PICTURE)
