"""A callback that keeps what it is told."""

from collections.abc import Mapping
from typing import Any

from tasks.common.training.callback import Callback, Training


class Recorder(Callback):
    """Keeps everything."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_start(self, training: Training) -> None:
        self.calls.append(("start", training))

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        self.calls.append(("step", (step, dict(values))))

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        self.calls.append(("epoch", dict(row)))

    def on_end(self, scores: Mapping[str, float]) -> None:
        self.calls.append(("end", dict(scores)))

    def on_exception(self, error: BaseException) -> None:
        self.calls.append(("exception", error))

    def of(self, event: str) -> list[Any]:
        return [value for name, value in self.calls if name == event]
