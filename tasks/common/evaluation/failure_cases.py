"""The most confident mistakes of an evaluation, of which a bounded number is kept."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from datasets.images import write_image
from datasets.loader import Source
from tasks.common.drawing.draw import contact_sheet, put_label
from tasks.common.evaluation.report import write_csv
from tasks.common.task import FailureCase, Task

T = TypeVar("T")
NUM_KEPT, NUM_DRAWN = 100, 12
FAILURE_CASES = Path("failure_cases.png")
BLACK = (0, 0, 0)


class FailureCases(Generic[T]):
    """The most confident mistake of each image, of the worst images."""

    def __init__(self, task: Task[T]) -> None:
        """Args: task: knows what a mistake is."""
        self._task = task
        # A heap, the least confident first; the row, which no two share, decides between equals: the first one stays.
        self._heap: list[tuple[float, int, FailureCase[T], T]] = []

    def update(self, rows: Sequence[int], predicted: Sequence[T], truth: Sequence[T]) -> None:
        """Take in the predictions for some images, and what is true of them."""
        for row, some, true in zip(rows, predicted, truth, strict=True):
            mistake = self._task.failure_case(some, true)
            if mistake is not None:
                keep = heapq.heappush if len(self._heap) < NUM_KEPT else heapq.heappushpop
                keep(self._heap, (mistake.confidence, -row, mistake, true))

    def write(self, source: Source[T], folder: Path) -> None:
        """Write `failure_cases.csv` and a sheet of the worst, `failure_cases.png`; no files where there are none."""
        worst = sorted(self._heap, reverse=True)
        if not worst:
            return
        table = [
            {"image": source.id(-row), "confidence": confidence, "what": mistake.what}
            for confidence, row, mistake, _ in worst
        ]
        write_csv(folder / FAILURE_CASES.with_suffix(".csv"), table)
        pictures = []
        for confidence, row, mistake, truth in worst[:NUM_DRAWN]:
            picture = self._task.draw(source[-row].image, mistake.predicted, truth)
            put_label(picture, f"{confidence:.2f} {mistake.what}", 0, len(picture), BLACK)
            pictures.append(picture)
        write_image(folder / FAILURE_CASES, contact_sheet(pictures))
