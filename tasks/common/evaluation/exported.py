"""The evaluation loop of an exported file, without torch; images are read while earlier ones are computed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from datasets.progress import Progress
from datasets.sources import EvaluationSet, Source
from datasets.types import Example, Unreadable
from tasks.common.deploy.exported import ExportedPredictor
from tasks.common.evaluation.failure_cases import FailureCases
from tasks.common.evaluation.scoring import Evaluation
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.inference_task import BATCH_SIZE

T = TypeVar("T")
NUM_THREADS = 2


def evaluate_exported(
    predictor: ExportedPredictor[T],
    source: Source[T],
    title: str,
    *,
    failure_cases: FailureCases[T] | None = None,
) -> Evaluation[T]:
    """Evaluate an exported file on a source, with a progress bar.

    Raises:
        ValueError: if more images are unreadable than `loop.max_unreadable_fraction` allows.
    """
    task = predictor.task
    metric, images = task.metric(), EvaluationSet(source, task.preprocessing())
    unreadable = UnreadableImages(len(source), task.config.loop.max_unreadable_fraction)
    num_images = 0
    with Progress(title, len(source)) as progress, ThreadPoolExecutor(NUM_THREADS) as threads:
        batches = [range(len(source))[first : first + BATCH_SIZE] for first in range(0, len(source), BATCH_SIZE)]
        reading = [threads.submit(images.__getitem__, row) for row in batches[0]] if batches else []
        for following in [*batches[1:], range(0)]:
            items = [future.result() for future in reading]
            reading = [threads.submit(images.__getitem__, row) for row in following]
            examples = [item for item in items if isinstance(item, Example)]
            unreadable.add(item for item in items if isinstance(item, Unreadable))
            if unreadable.problem is not None:
                raise ValueError(unreadable.problem)
            if examples:
                predicted = predictor([example.image for example in examples])
                truth = [example.truth for example in examples]
                metric.update(predicted, truth)
                if failure_cases is not None:
                    failure_cases.update([example.row for example in examples], predicted, truth)
            num_images += len(examples)
            progress.advance(len(items))
    return Evaluation(metric.compute(), num_images, unreadable.broken.num_images, metric)
