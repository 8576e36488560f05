"""Watching a training: what a callback is told, and when. Imports nothing heavy.

`fit` writes its own log and curves by callbacks (`run_log.py`), and sends the same to TensorBoard, MLflow and Weights &
Biases (`loggers/`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Training:
    """A training, as its callbacks know it.

    Attributes:
        run: its folder.
        task: the name of the task.
        settings: all of them, by group and name.
        score_name: the score by which the best checkpoint is chosen.
        step: optimiser steps done before; more than 0 in a resumed run.
        history: the rows of `log.csv` so far, to which the training appends.
    """

    run: Path
    task: str
    settings: Mapping[str, Any]
    score_name: str
    step: int = 0
    history: Sequence[Mapping[str, Any]] = ()


class Callback:
    """Is told of a training as it goes on, in the first process alone; a subclass overrides what it needs.

    Attributes:
        is_essential: whether its exceptions end the training.
    """

    is_essential: ClassVar[bool] = True

    def on_start(self, training: Training) -> None:
        """Before the first step, of a resumed run, too."""

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Every 20 steps.

        Args:
            step: optimiser steps done.
            values: learning rate (`lr`), and the mean over the steps since the last call of `loss` and its parts.
        """

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """After each epoch, evaluated or not.

        Args:
            row: of `log.csv`; of epoch 0, the scores of a trained start, without losses.
        """

    def on_checkpoint(self, step: int) -> None:
        """After a checkpoint to resume from has been written: within an epoch, at its end, and when it is interrupted.

        Args:
            step: optimiser steps done.
        """

    def on_end(self, scores: Mapping[str, float]) -> None:
        """After a complete training, whose files are in the run folder.

        Args:
            scores: of the best checkpoint; none without validation images.
        """

    def on_exception(self, error: BaseException) -> None:
        """After an error or an interruption, in place of `on_end`; the run may be resumed."""


class Callbacks(Callback):
    """Several callbacks as one, called in their order.

    A callback that is not `is_essential` is left out from its first exception on, which becomes a warning.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        """Nothing happens before `on_start`."""
        self._callbacks = list(callbacks)
        self._open: list[Callback] = []  # those that have been started and have not ended

    def on_start(self, training: Training) -> None:
        """See `Callback`."""

        def start(callback: Callback) -> None:
            self._open.append(callback)
            callback.on_start(training)

        self._tell(start)

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """See `Callback`."""
        self._tell(lambda callback: callback.on_step(step, values))

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._tell(lambda callback: callback.on_epoch(row))

    def on_checkpoint(self, step: int) -> None:
        """See `Callback`."""
        self._tell(lambda callback: callback.on_checkpoint(step))

    def on_end(self, scores: Mapping[str, float]) -> None:
        """See `Callback`."""

        def end(callback: Callback) -> None:
            self._open.remove(callback)
            callback.on_end(scores)

        self._tell(end)

    def on_exception(self, error: BaseException) -> None:
        """Tell those that have been started and have not ended; what they raise is a warning, beside the error."""
        for callback in self._open:
            try:
                callback.on_exception(error)
            except Exception as another:
                warnings.warn(f"{_failure(callback, another)} after the error", stacklevel=2)

    def _tell(self, call: Callable[[Callback], None]) -> None:
        for callback in self._callbacks.copy():
            try:
                call(callback)
            except Exception as error:
                if callback.is_essential:
                    raise
                self._callbacks.remove(callback)
                if callback in self._open:
                    self._open.remove(callback)
                warnings.warn(
                    f"{_failure(callback, error)}; the training goes on without it; log.csv has all", stacklevel=3
                )


def _failure(callback: Callback, error: Exception) -> str:
    return f"{type(callback).__name__} failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"


@contextmanager
def watched_by(callback: Callback, training: Training) -> Iterator[None]:
    """Tell a callback of the start, and of an exception of the block; the block itself tells the rest."""
    try:
        callback.on_start(training)
        yield
    except BaseException as error:
        callback.on_exception(error)
        raise
