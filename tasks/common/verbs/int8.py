"""The way to 8 bits that keeps a network's predictions: chosen by training images, checked by validation images."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from tasks.common.verbs.comparison import Candidate

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


class Quantizations:
    """The quantised ONNX files of a network, each written when it is first asked for."""

    def __init__(self, floats: Path, images: Sequence[Image], fine_tune: Callable[[], Path] | None = None) -> None:
        """Take a network.

        Args:
            floats: its file, without postprocessing; the others are written beside it.
            images: preprocessed training images, which nothing was fine-tuned on.
            fine_tune: fine-tunes for 8 bits and writes the float32 file; None to leave that out.
        """
        self._floats, self.images, self._fine_tune = floats, images, fine_tune
        self._paths: dict[tuple[Quantization, tuple[str, ...]], Path] = {}

    @property
    def methods(self) -> list[Quantization]:
        """What is tried first."""
        return [UNCORRECTED, CORRECTED, *([] if self._fine_tune is None else [FINE_TUNED])]

    def path(self, method: Quantization, worst: Sequence[str] = ()) -> Path:
        """The file that is quantised in a way; see `quantize`."""
        key = method, tuple(worst)
        if key not in self._paths:
            path = self._floats.with_name(f"int8-{len(self._paths)}.onnx")
            fine_tuned = self._fine_tune() if self._fine_tune and method.title == FINE_TUNED.title else None
            quantize(self._floats, path, self.images, method, worst, fine_tuned)
            self._paths[key] = path
        return self._paths[key]

    def worst_layers(self, path: Path) -> list[tuple[str, float]]:
        """See `worst_layers`."""
        return worst_layers(self._floats, path, self.images)


def find_int8(
    task: InferenceTask[Any],
    quantizations: Quantizations,
    *,
    runtime: str,
    num_first_layers: int,
    reference: Predict[Any],
    candidate_of: Callable[[Path], Candidate],
    score_of: Callable[[Candidate], float | None],
    float_score: float | None,
    max_loss: float,
) -> tuple[Attempt, list[Attempt]]:
    """Quantise with corrected biases where that agrees better with the float network, else without.

    A fine-tuned network is quantised too, if there is one, and taken if it agrees better than both. If the best costs
    more than `max_loss` on the validation images, other ways are tried, and the one that agrees best on the training
    images is scored.

    Args:
        task: of the network.
        quantizations: of the network.
        runtime: that runs them, in words.
        num_first_layers: that stay in float32.
        reference: predicts by the float network.
        candidate_of: a quantised ONNX file -> what predicts by it in the runtime.
        score_of: its score on the validation images; None without any.
        float_score: the score of the float network.
        max_loss: of the score, at most.

    Returns:
        The one to take, and all that were tried.

    Raises:
        ValueError: if all lose more; it names the layers with the largest error.
    """
    images = quantizations.images
    expected = predict_all(reference, images)
    tried: list[Attempt] = []

    def attempt(title: str, methods: Sequence[Quantization], worst: Sequence[str] = ()) -> None:
        with Progress(f"{title} for {runtime}", len(methods)) as progress:
            for method in methods:
                path = quantizations.path(replace(method, num_first_layers=num_first_layers), worst)
                agreement = task.agreement(expected, predict_all(candidate_of(path).predict, images))
                tried.append(Attempt(method.title, path, agreement))
                progress.advance()

    methods = quantizations.methods
    attempt("quantising", methods)
    best = max(reversed(tried), key=_rank)
    best = _replace(tried, best, score_of(candidate_of(best.raw)))
    if not _loses(best, float_score, max_loss):
        return best, tried
    layers = quantizations.worst_layers(best.raw)
    attempt("quantising in other ways", REMEDIES, [name for name, _ in layers])
    best = max(reversed(tried), key=_rank)
    if best.score is None:
        best = _replace(tried, best, score_of(candidate_of(best.raw)))
    if not _loses(best, float_score, max_loss):
        return best, tried
    print_attempts(runtime, tried, task, float_score)
    assert best.score is not None
    assert float_score is not None
    named = ", ".join(f"{name} ({error:.2f})" for name, error in layers[:NUM_NAMED_LAYERS])
    way_out = "train a larger width" if FINE_TUNED in methods else "try --finetune, train a larger width"
    raise ValueError(
        f"--int8: {task.score_name} in {runtime} falls by {float_score - best.score:.3f} to {best.score:.3f}, more "
        f"than --max_loss {max_loss:g}; the layers with the largest relative error are {named}; export without --int8, "
        f"{way_out}, or allow it with a larger --max_loss"
    )


def print_attempts(runtime: str, tried: Sequence[Attempt], task: InferenceTask[Any], float_score: float | None) -> None:
    """A table of the quantisations that were tried."""
    title = f"8 bits in {runtime}; {task.score_name} in float32: {_number(float_score)}"
    table = Table(title=title, caption=task.agreement_caveat)
    for column in ("", "agreement with float32", "KL divergence", task.score_name):
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
