"""The most confident errors of an evaluation; a fixed number is kept."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from datasets.drawing.draw import add_caption, contact_sheet
from datasets.images.read import write_image
from datasets.sources import Source
from tasks.common.evaluation.report import write_csv
from tasks.common.inference_task import FailureCase, InferenceTask

if TYPE_CHECKING:
    from tasks.common.runtime.distributed import World

T = TypeVar("T")
NUM_KEPT, NUM_DRAWN = 100, 12
FAILURE_CASES = Path("failure_cases.png")


class FailureCases(Generic[T]):
    """The `NUM_KEPT` most confident failure cases, at most one per image."""

    def __init__(self, task: InferenceTask[T]) -> None:
        """Args: task: finds and draws failure cases."""
        self._task = task
        # A min-heap by confidence; rows are unique and break ties, so that the first image is kept.
        self._heap: list[tuple[float, int, FailureCase[T], T]] = []

    def update(self, rows: Sequence[int], predicted: Sequence[T], truth: Sequence[T]) -> None:
        """Add the predictions of a batch, and their ground truth."""
        for row, prediction, target in zip(rows, predicted, truth, strict=True):
            case = self._task.failure_case(prediction, target)
            if case is not None:
                push = heapq.heappush if len(self._heap) < NUM_KEPT else heapq.heappushpop
                push(self._heap, (case.confidence, -row, case, target))

    def merge_processes(self, world: World) -> None:
        """On rank 0, add those of all other processes."""
        for heap in world.gather(self._heap)[1:]:
            self._heap = sorted(self._heap + heap)[-NUM_KEPT:]

    def write(self, source: Source[T], folder: Path) -> None:
        """Write `failure_cases.csv` and a contact sheet of the worst, `failure_cases.png`, if there are any."""
        worst = sorted(self._heap, reverse=True)
        if not worst:
            return
        table = [
            {"image": source.id(-row), "confidence": confidence, "what": case.what}
            for confidence, row, case, _ in worst
        ]
        write_csv(folder / FAILURE_CASES.with_suffix(".csv"), table)
        pictures = []
        for confidence, row, mistake, truth in worst[:NUM_DRAWN]:
            picture = self._task.draw_failure_case(source[-row].image, mistake, truth)
            pictures.append(add_caption(picture, f"{confidence:.2f} {mistake.what}", is_title=True))
        write_image(folder / FAILURE_CASES, contact_sheet(pictures))
