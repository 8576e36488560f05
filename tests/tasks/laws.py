"""Laws for the parts of every task; each task's tests call them with their own examples."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from datasets.types import Example
from tasks.common.inference_task import Metric

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
CUTS = ((0.2, 0.5), (0.0, 0.7), (0.3, 0.3), (0.6, 1.0))  # fractions where a split is cut; some parts are empty
BATCH_SIZE = 5


def as_examples(truth: Sequence[Any], seeds: Sequence[int] | None = None) -> list[Example[Any]]:
    """Examples with that truth, without pixels."""
    seeds = range(len(truth)) if seeds is None else seeds
    return [
        Example(NO_PIXELS, target, str(row), row, seed)
        for row, (target, seed) in enumerate(zip(truth, seeds, strict=True))
    ]


def assert_merge_is_exact(build: Callable[[], Metric[Any]], predicted: Sequence[Any], truth: Sequence[Any]) -> None:
    """Three metrics over unequal parts, merged in order, give bit for bit the scores of one metric over everything."""

    def metric_of(low: int, high: int) -> Metric[Any]:
        metric = build()
        for start in range(low, high, BATCH_SIZE):  # never with an empty batch
            part = slice(start, min(start + BATCH_SIZE, high))
            metric.update(predicted[part], truth[part])
        return metric

    expected = metric_of(0, len(truth)).compute()
    assert not all(map(np.isnan, expected.values()))
    for cuts in CUTS:
        ends = [0, *(int(cut * len(truth)) for cut in cuts), len(truth)]
        metric, *later = (metric_of(low, high) for low, high in pairwise(ends))
        for part in later:
            metric.merge(part)
        merged = metric.compute()
        assert list(merged) == list(expected)
        np.testing.assert_array_equal(list(merged.values()), list(expected.values()))  # NaN equals NaN
