"""Laws that the parts of every task obey, to be stated with a task's own material."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from datasets.types import Example
from tasks.common.task import Metric

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
PARTINGS = ((0.2, 0.5), (0.0, 0.7), (0.3, 0.3), (0.6, 1.0))  # where a split is cut; some parts are empty
BATCH = 5


def as_examples(truth: Sequence[Any], seeds: Sequence[int] | None = None) -> list[Example[Any]]:
    """Examples without pixels of which something is true."""
    seeds = range(len(truth)) if seeds is None else seeds
    return [
        Example(NO_PIXELS, true, str(row), row, seed) for row, (true, seed) in enumerate(zip(truth, seeds, strict=True))
    ]


def assert_merge_is_exact(build: Callable[[], Metric[Any]], predicted: Sequence[Any], truth: Sequence[Any]) -> None:
    """Three metrics over unequal parts, merged in order, score to the last bit what one that sees everything does."""

    def metric_of(low: int, high: int) -> Metric[Any]:
        metric = build()
        for start in range(low, high, BATCH):  # none is told of an empty batch
            part = slice(start, min(start + BATCH, high))
            metric.update(predicted[part], truth[part])
        return metric

    expected = metric_of(0, len(truth)).compute()
    assert not all(map(np.isnan, expected.values()))
    for shares in PARTINGS:
        ends = [0, *(int(share * len(truth)) for share in shares), len(truth)]
        first, *others = (metric_of(low, high) for low, high in pairwise(ends))
        for other in others:
            first.merge(other)
        merged = first.compute()
        assert list(merged) == list(expected)
        np.testing.assert_array_equal(list(merged.values()), list(expected.values()))  # NaN equals NaN
