"""Early stopping: a function of the log, so that a resumed run stops where the whole one does."""

import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.common.cli.parser import parse_arguments
from tasks.common.evaluation.report import has_stalled
from tasks.common.evaluation.scoring import Evaluation
from tasks.common.training import fit as fit_module
from tasks.detection.config import DetectionConfig
from tasks.detection.metric import DetectionMetric
from tasks.detection.task import DetectionTask
from tests.tasks.common.runs import read_log, words_of

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "patience", "stalled"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.4], 1, True),
        ([0.5, 0.4], 2, False),
        ([0.5, 0.5, 0.5], 2, True),  # equal is no rise
        ([0.5, 0.4, 0.6], 1, False),
        ([0.5, 0.4, 0.6, 0.5, 0.6], 2, True),
        ([0.5, NAN, NAN], 2, True),  # undefined is no rise
        ([NAN, NAN, NAN, NAN], 2, False),  # nothing is known
        ([NAN, NAN, 0.1, 0.0], 2, False),
        ([0.5, None, 0.4, None], 2, True),  # epochs without an evaluation
        ([0.5, None, None, None], 2, False),
    ],
)
def test_a_score_has_stalled_if_the_highest_is_that_many_epochs_old(
    scores: Sequence[float | None], patience: int, stalled: bool
) -> None:
    history: list[dict[str, Any]] = [{"epoch": epoch} for epoch in range(1, len(scores) + 1)]
    for row, score in zip(history, scores, strict=True):
        row |= {} if score is None else {"AP": score}
    assert has_stalled(history, "AP", patience) == stalled


def config_of(root: Path, *more: str) -> DetectionConfig:
    words = words_of(root, "--optim.epochs", "6", "--loop.num_workers", "0", "--loop.evaluate_every", "1", *more)[3:]
    config: DetectionConfig = parse_arguments("detection", DetectionConfig, Path(), words).config
    return config


def script_scores(monkeypatch: pytest.MonkeyPatch, scores: Sequence[float]) -> None:
    """Let the evaluations give these scores, by the epoch that the training is in."""
    calls = iter(scores)

    def evaluate(*_: Any, **__: Any) -> Evaluation[Any]:
        return Evaluation({"AP": next(calls)}, 8, 0, DetectionMetric(["a"]))

    monkeypatch.setattr(fit_module, "evaluate", evaluate)


def test_a_run_stops_and_keeps_its_best_and_resuming_changes_nothing(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [0.1, 0.3, 0.2, NAN, 0.9, 0.9]
    config, whole, parts = config_of(generated_root, "--optim.patience", "2"), tmp_path / "whole", tmp_path / "parts"
    for run in (whole, parts):
        run.mkdir()
    script_scores(monkeypatch, scores)
    assert fit_module.fit(DetectionTask.from_data(config), whole) == {"AP": 0.3}
    assert [row["epoch"] for row in read_log(whole)] == ["1", "2", "3", "4"]

    script_scores(monkeypatch, scores)
    rate = fit_module.learning_rate

    def rate_with_signal(optim: Any, step: int, steps_per_epoch: int) -> float:
        if step == 2 * steps_per_epoch + 3:  # within the third epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return rate(optim, step, steps_per_epoch)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "learning_rate", rate_with_signal)
        with pytest.raises(fit_module.InterruptedRunError):
            fit_module.fit(DetectionTask.from_data(config), parts)
    script_scores(monkeypatch, scores[2:])
    assert fit_module.fit(DetectionTask.from_data(config), parts, resume=True) == {"AP": 0.3}
    states = [torch.load(run / "last.pt", weights_only=True) for run in (whole, parts)]
    assert states[0]["step"] == states[1]["step"]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name

    script_scores(monkeypatch, [])  # a stopped run is finished: resuming evaluates and trains nothing
    assert fit_module.fit(DetectionTask.from_data(config), parts, resume=True) == {"AP": 0.3}
    assert len(read_log(parts)) == 4
