"""The way to 8 bits that keeps a network's predictions: chosen by training images, checked by validation images."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from datasets.progress import Progress
from datasets.types import Image
from tasks.common.agreement import Agreement
from tasks.common.deploy.quantization import (
    CORRECTED,
    FINE_TUNED,
    REMEDIES,
    UNCORRECTED,
    Quantization,
    quantize,
    worst_layers,
)
from tasks.common.inference_task import InferenceTask, Predict, predict_all

NUM_NAMED_LAYERS = 3


class Attempt(NamedTuple):
    """One quantisation.

    Attributes:
        title: how it was done.
        raw: its file, without postprocessing.
        agreement: with the float network, on the calibration images.
        score: on the validation images; None if it was not computed.
    """

    title: str
    raw: Path
    agreement: Agreement
    score: float | None = None

    def as_record(self) -> dict[str, Any]:
        """For a report."""
        similarity, kl = self.agreement
        return {"title": self.title, "agreement": similarity, "kl": kl, "score": self.score}


def find_int8(
    task: InferenceTask[Any],
    floats: Path,
    images: Sequence[Image],
    *,
    reference: Predict[Any],
    predictor_of: Callable[[Path], Predict[Any]],
    score_of: Callable[[Path], float | None],
    float_score: float | None,
    max_loss: float,
    fine_tune: Callable[[], Path] | None = None,
) -> tuple[Attempt, list[Attempt]]:
    """Quantise with corrected biases where that agrees better with the float network, else without.

    With `fine_tune`, the fine-tuned network is quantised too, and taken if it agrees better than both. If the best
    costs more than `max_loss` on the validation images, other ways are tried, and the one that agrees best on the
    training images is scored.

    Args:
        task: of the network.
        floats: its file, without postprocessing; the others are written beside it.
        images: preprocessed training images, which nothing was fine-tuned on.
        reference: predicts by the float network.
        predictor_of: a file -> what predicts by it.
        score_of: a file -> its score on the validation images; None without any.
        float_score: the score of the float network.
        max_loss: of the score, at most.
        fine_tune: fine-tunes for 8 bits and writes the float32 file; None to leave that out.

    Returns:
        The one to take, and all that were tried.

    Raises:
        ValueError: if all lose more; it names the layers with the largest error.
    """
    expected = predict_all(reference, images)
    tried: list[Attempt] = []

    def attempt(
        title: str, methods: Sequence[Quantization], worst: Sequence[str] = (), fine_tuned: Path | None = None
    ) -> None:
        with Progress(title, len(methods)) as progress:
            for method in methods:
                path = floats.with_name(f"int8-{len(tried)}.onnx")
                quantize(floats, path, images, method, worst, fine_tuned)
                agreement = task.agreement(expected, predict_all(predictor_of(path), images))
                tried.append(Attempt(method.title, path, agreement))
                progress.advance()

    attempt("quantising", [UNCORRECTED, CORRECTED])
    if fine_tune is not None:
        attempt("quantising the fine-tuned network", [FINE_TUNED], fine_tuned=fine_tune())
    best = max(reversed(tried), key=_rank)
    best = _replace(tried, best, score_of(best.raw))
    if not _loses(best, float_score, max_loss):
        return best, tried
    layers = worst_layers(floats, best.raw, images)
    attempt("quantising in other ways", REMEDIES, [name for name, _ in layers])
    best = max(reversed(tried), key=_rank)
    if best.score is None:
        best = _replace(tried, best, score_of(best.raw))
    if not _loses(best, float_score, max_loss):
        return best, tried
    print_attempts(tried, task.score_name, float_score)
    assert best.score is not None
    assert float_score is not None
    named = ", ".join(f"{name} ({error:.2f})" for name, error in layers[:NUM_NAMED_LAYERS])
    way_out = "train a larger width" if fine_tune is not None else "try --finetune, train a larger width"
    raise ValueError(
        f"--int8: {task.score_name} falls by {float_score - best.score:.3f} to {best.score:.3f}, more than --max_loss "
        f"{max_loss:g}; the layers with the largest relative error are {named}; export without --int8, {way_out}, "
        "or allow it with a larger --max_loss"
    )


def print_attempts(tried: Sequence[Attempt], score_name: str, float_score: float | None) -> None:
    """A table of the quantisations that were tried."""
    table = Table(title=f"8 bits; {score_name} in float32: {_number(float_score)}")
    for column in ("", "agreement with float32", "KL divergence", score_name):
        table.add_column(column, justify="right" if column else "left")
    for one in tried:
        table.add_row(one.title, _number(one.agreement.similarity), _number(one.agreement.kl), _number(one.score))
    Console(file=sys.stderr).print(table)


def _rank(attempt: Attempt) -> tuple[float, float]:
    """Higher is nearer to the float network: by the divergence, where there is one, then by the similarity."""
    similarity, kl = attempt.agreement
    nearness = (0.0 if kl is None else -kl, similarity)
    return (-math.inf, -math.inf) if any(map(math.isnan, nearness)) else nearness


def _loses(attempt: Attempt, float_score: float | None, max_loss: float) -> bool:
    return attempt.score is not None and float_score is not None and float_score - attempt.score > max_loss


def _replace(tried: list[Attempt], attempt: Attempt, score: float | None) -> Attempt:
    scored = attempt._replace(score=score)
    tried[tried.index(attempt)] = scored
    return scored


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
