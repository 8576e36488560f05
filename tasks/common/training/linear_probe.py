"""Linear probe (`optim.layers: linear_probe`): the head is trained on cached features of the frozen backbone.

With a linear head and cross-entropy this is logistic regression: convex, so full-batch L-BFGS finds the optimum in
seconds, without a learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from datasets.batch import map_tensors
from datasets.memory import available_bytes
from datasets.sources import Source
from datasets.types import Example
from tasks.common.evaluation.features import pooled_features
from tasks.common.evaluation.result import write_result
from tasks.common.evaluation.scoring import NO_IMAGES, validation_source
from tasks.common.runtime.device import device_of, setup_device
from tasks.common.runtime.distributed import SINGLE_PROCESS
from tasks.common.task import Task
from tasks.common.thresholds import ThresholdCounts
from tasks.common.training.callback import Callback, watched_by
from tasks.common.training.optim import split_by_weight_decay
from tasks.common.training.run_log import describe, watchers, write_model_card

T = TypeVar("T")
MAX_ITERATIONS, HISTORY = 500, 100
PREDICTION_BATCH_SIZE = 4096
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


def fit_linear_probe(task: Task[T], run: Path, callbacks: Sequence[Callback] = ()) -> dict[str, float]:
    """Train only the head; write the run folder as `fit` does, without log and curves.

        loss + optim.weight_decay / 2 * sum of squared kernels

    There are no batches to balance: `optim.balance` weighs the images in the loss as it would show them.

    Args:
        task: its model has `backbone`, `head` and `from_features`.
        run: an existing run folder.
        callbacks: told of the start and the end, after the loggers in `loop.loggers`.

    Returns:
        The scores on the validation images, as in `metrics.json`; none without such images.

    Raises:
        ValueError: if the features and logits of all training images do not fit into the available memory.
    """
    callback = watchers(task.config.loop.logger_names, callbacks, SINGLE_PROCESS)
    with watched_by(callback, describe(task, run)):
        scores = _fit(task, run)
        callback.on_end(scores)
    return scores


def _fit(task: Task[T], run: Path) -> dict[str, float]:
    torch.manual_seed(task.config.seed)
    model: Any = task.build_model().to(setup_device(task.config.loop)).eval()
    source = task.source("train")
    _check_memory(model, len(source))
    features, examples, _ = _extract(task, model, source, "features of the training images")
    groups = _groups(task, [example.truth for example in examples])
    inputs = [features[rows] for _, rows in groups]
    targets = [
        map_tensors(lambda tensor: tensor.to(features.device), task.collate()([examples[row] for row in rows]))
        for _, rows in groups
    ]

    def mean_loss() -> Tensor:
        losses = [task.loss(model.from_features(x), y)["total"] for x, y in zip(inputs, targets, strict=True)]
        return torch.stack([fraction * loss for (fraction, _), loss in zip(groups, losses, strict=True)]).sum()

    minimise(model.head, mean_loss, task.config.optim.weight_decay)

    val_source = validation_source(task)
    scores, counts, classes = ({}, NO_IMAGES, ()) if val_source is None else _evaluate(task, model, val_source)
    shown = source if val_source is None else val_source
    write_result(task, model, shown, run, scores=scores, counts=counts, classes=classes)
    write_model_card(task, model, run, len(source), scores, counts)
    return scores


def _groups(task: Task[T], truths: Sequence[T]) -> list[tuple[float, list[int]]]:
    """The rows of images that `optim.balance` weighs equally, and the fraction of all weight that they have."""
    weights = task.balance_weights(truths) if task.config.optim.balance else np.ones(len(truths))
    groups = [(weight, np.flatnonzero(weights == weight)) for weight in np.unique(weights)]
    return [(float(weight * len(rows) / weights.sum()), rows.tolist()) for weight, rows in groups]


@torch.inference_mode()
def _evaluate(
    task: Task[T], model: Any, source: Source[T]
) -> tuple[dict[str, float], dict[str, int], Sequence[ThresholdCounts]]:
    """The scores on the validation images, the numbers of images, and the counts by threshold."""
    features, examples, num_unreadable = _extract(task, model, source, "features of the validation images")
    metric = task.metric()
    for start in range(0, len(examples), PREDICTION_BATCH_SIZE):
        part = slice(start, start + PREDICTION_BATCH_SIZE)
        predicted = task.decode(model.from_features(features[part]))
        metric.update(predicted, [example.truth for example in examples[part]])
    counts = {"num_images": len(examples), "num_unreadable": num_unreadable}
    return metric.compute(), counts, metric.count_at_thresholds()


def minimise(head: nn.Module, loss: Callable[[], Tensor], weight_decay: float) -> None:
    """Minimise `loss()` plus weight decay on the head's kernels by full-batch L-BFGS, in place."""
    kernels, _ = split_by_weight_decay(head)
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=MAX_ITERATIONS,
        tolerance_grad=1e-5,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total: Tensor = loss() + weight_decay / 2 * sum(kernel.square().sum() for kernel in kernels)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _check_memory(model: Any, num_images: int) -> None:
    """Raise a ValueError if L-BFGS lacks memory: float32 features, logits, gradients, and two vectors per step."""
    num_features = model.backbone.num_features
    num_outputs = sum(len(matrix) for matrix in model.head.parameters() if matrix.ndim == 2)
    num_parameters = sum(parameter.numel() for parameter in model.head.parameters())
    needed = 4 * (num_images * (num_features + 3 * num_outputs) + 2 * HISTORY * num_parameters)
    device = device_of(model)
    available = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    if available is not None and needed > available:
        raise ValueError(
            f"optim.layers: linear_probe takes about {needed / 1e9:.1f} GB of memory for {num_images} images, "
            f"{num_features} features and {num_outputs} outputs, but {available / 1e9:.1f} GB are available; "
            "use all or gradual, or fewer images"
        )


def _extract(task: Task[T], model: Any, source: Source[T], title: str) -> tuple[Tensor, list[Example[T]], int]:
    """The features of a source's readable images, on the model's device; their examples without pixels; and the number
    of unreadable images.
    """
    features = pooled_features(task, model.backbone, source, title)
    examples = [Example(NO_IMAGE, source.truth(row), source.id(row), row) for row in features.rows]
    return features.values.to(device_of(model)), examples, features.num_unreadable
