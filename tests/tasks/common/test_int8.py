"""The choice of a quantisation: by agreement on training images, checked by the score on validation images."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.common.agreement import Agreement, divergence
from tasks.common.deploy.quantization import (
    CORRECTED,
    FINE_TUNED,
    NUM_FIRST_LAYERS,
    REMEDIES,
    UNCORRECTED,
    Quantization,
)
from tasks.common.verbs import int8
from tasks.common.verbs.comparison import Candidate
from tasks.common.verbs.int8 import Attempt, Quantizations, find_int8

TITLES = [UNCORRECTED.title, CORRECTED.title, *(method.title for method in REMEDIES)]


class Stub:
    """A task whose predictions are the titles of quantisations, with given divergences from the float network."""

    score_name = "top1"
    agreement_caveat = "these images were seen before"

    def __init__(self, kl: Sequence[float], scores: Sequence[float]) -> None:
        self.kl, self.scores = dict(zip(TITLES, kl, strict=False)), dict(zip(TITLES, scores, strict=False))
        self.scored: list[str] = []

    def agreement(self, _: Any, predicted: Sequence[str]) -> Agreement:
        return Agreement(0.5, self.kl[predicted[0]])


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    written: list[Quantization] = []

    def quantize(
        _: Path, path: Path, __: Any, method: Quantization, worst: Sequence[str], fine_tuned: Path | None
    ) -> None:
        assert bool(worst) == (method in REMEDIES)
        assert (fine_tuned is not None) == (method == FINE_TUNED)
        assert method not in written
        written.append(method)
        path.write_text(method.title)

    monkeypatch.setattr(int8, "quantize", quantize)
    monkeypatch.setattr(int8, "worst_layers", lambda *_: [("first.weight", 0.5), ("second.weight", 0.25)])

    def candidate_of(path: Path) -> Candidate:
        title = path.read_text()
        return Candidate(title, lambda *_: None, lambda images: [title] * len(images), 0)  # type: ignore[arg-type, return-value]

    def run(
        stub: Any, max_loss: float = 0.01, fine_tune: Callable[[], Path] | None = None, times: int = 1
    ) -> tuple[Attempt, list[Attempt]]:
        def score_of(candidate: Candidate) -> float | None:
            stub.scored.append(candidate.title)
            found: float | None = stub.scores.get(candidate.title)
            return found

        written.clear()
        quantizations = Quantizations(tmp_path / "floats.onnx", [np.zeros((2, 2, 3), np.uint8)], fine_tune)
        for _ in range(times):
            found = find_int8(
                stub,
                quantizations,
                runtime="ONNX Runtime",
                num_first_layers=NUM_FIRST_LAYERS,
                reference=lambda images: ["floats"] * len(images),
                candidate_of=candidate_of,
                score_of=score_of,
                float_score=0.8,
                max_loss=max_loss,
            )
        return found

    return run


def test_a_second_runtime_takes_the_files_of_the_first(find: Any) -> None:
    """`quantize` above is not called twice for one."""
    calls = []

    def fine_tune() -> Path:
        calls.append(1)
        return Path("fine_tuned.onnx")

    stub = Stub((0.15, 0.05, 0.2, 0.04, 0.01), (0.7, 0.75, 0.8, 0.8, 0.795))
    stub.kl[FINE_TUNED.title] = 0.3
    assert find(stub, fine_tune=fine_tune, times=2)[0].title == REMEDIES[2].title
    assert len(calls) == 1


@pytest.mark.parametrize(("kl", "expected"), [((0.15, 0.01), CORRECTED), ((0.01, 0.15), UNCORRECTED)])
def test_the_one_that_diverges_less_on_training_images_is_taken_and_alone_is_scored(
    kl: tuple[float, float], expected: Quantization, find: Any
) -> None:
    stub = Stub(kl, (0.795, 0.795))
    best, tried = find(stub)
    assert best.title == expected.title
    assert stub.scored == [expected.title]
    assert [one.title for one in tried] == TITLES[:2]


def test_of_equal_ones_the_corrected_is_taken(find: Any) -> None:
    assert find(Stub((0.1, 0.1), (0.8, 0.8)))[0].title == CORRECTED.title


def test_a_network_whose_outputs_are_not_numbers_is_not_taken(find: Any) -> None:
    assert find(Stub((0.15, math.nan), (0.795, 0.795)))[0].title == UNCORRECTED.title


def test_other_ways_are_tried_where_it_loses_too_much(find: Any) -> None:
    stub = Stub((0.15, 0.05, 0.2, 0.04, 0.01), (0.7, 0.75, 0.8, 0.8, 0.795))
    best, tried = find(stub)
    assert best.title == REMEDIES[2].title
    assert stub.scored == [CORRECTED.title, REMEDIES[2].title]  # not the one with the best score: val is not chosen on
    assert [one.title for one in tried] == TITLES


@pytest.mark.parametrize(("kl", "expected"), [(0.005, FINE_TUNED), (0.02, CORRECTED)])
def test_the_fine_tuned_network_is_taken_where_it_agrees_better(kl: float, expected: Quantization, find: Any) -> None:
    stub = Stub((0.15, 0.01), (0.7, 0.795))
    stub.kl[FINE_TUNED.title], stub.scores[FINE_TUNED.title] = kl, 0.795
    best, tried = find(stub, fine_tune=lambda: Path("fine_tuned.onnx"))
    assert best.title == expected.title
    assert [one.title for one in tried] == [*TITLES[:2], FINE_TUNED.title]
    assert stub.scored == [expected.title]


def test_a_loss_that_nothing_mends_is_refused_with_the_layers_and_a_table(
    find: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub((0.15, 0.05, 0.2, 0.04, 0.01), (0.7, 0.75, 0.7, 0.7, 0.72))
    with pytest.raises(
        ValueError, match=r"top1 in ONNX Runtime falls by 0\.080 to 0\.720, more than --max_loss 0\.01"
    ) as error:
        find(stub)
    assert "first.weight (0.50), second.weight (0.25)" in str(error.value)
    assert "try --finetune, train a larger width, or allow it with a larger --max_loss" in str(error.value)
    printed = capsys.readouterr().err
    assert "0.7200" in printed
    assert Stub.agreement_caveat in printed
    assert find(stub, max_loss=0.1)[0].title == CORRECTED.title


def test_without_validation_images_nothing_is_lost_that_could_be_told(find: Any) -> None:
    assert find(Stub((0.15, 0.01), ()))[0].score is None


def test_divergence_is_that_of_scipy() -> None:
    from scipy.special import rel_entr

    p, q = (np.random.default_rng(seed).dirichlet(np.ones(5), 7).astype(np.float32) for seed in (0, 1))
    assert divergence(p, q) == pytest.approx(rel_entr(p, q).sum(1).mean(), rel=1e-5)
    assert divergence(p, p) == 0
    assert math.isfinite(divergence(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[::-1]))
