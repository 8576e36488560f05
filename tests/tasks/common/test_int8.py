"""The choice of a quantisation: by agreement on training images, checked by the score on validation images."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.common.agreement import Agreement, divergence
from tasks.common.deploy.quantization import CORRECTED, FINE_TUNED, REMEDIES, UNCORRECTED, Quantization
from tasks.common.verbs import int8
from tasks.common.verbs.int8 import Attempt, find_int8

TITLES = [UNCORRECTED.title, CORRECTED.title, *(method.title for method in REMEDIES)]


class Stub:
    """A task whose predictions are the titles of quantisations, with given divergences from the float network."""

    score_name = "top1"

    def __init__(self, kl: Sequence[float], scores: Sequence[float]) -> None:
        self.kl, self.scores = dict(zip(TITLES, kl, strict=False)), dict(zip(TITLES, scores, strict=False))
        self.scored: list[str] = []

    def agreement(self, _: Any, predicted: Sequence[str]) -> Agreement:
        return Agreement(0.5, self.kl[predicted[0]])


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    floats = tmp_path / "floats.onnx"

    def quantize(
        _: Path, path: Path, __: Any, method: Quantization, worst: Sequence[str], fine_tuned: Path | None
    ) -> None:
        assert bool(worst) == (method in REMEDIES)
        assert (fine_tuned is not None) == (method is FINE_TUNED)
        path.write_text(method.title)

    monkeypatch.setattr(int8, "quantize", quantize)
    monkeypatch.setattr(int8, "worst_layers", lambda *_: [("first.weight", 0.5), ("second.weight", 0.25)])

    def run(
        stub: Any, max_loss: float = 0.01, fine_tune: Callable[[], Path] | None = None
    ) -> tuple[Attempt, list[Attempt]]:
        def score_of(path: Path) -> float | None:
            stub.scored.append(path.read_text())
            found: float | None = stub.scores.get(path.read_text())
            return found

        return find_int8(
            stub,
            floats,
            [np.zeros((2, 2, 3), np.uint8)],
            reference=lambda images: ["floats"] * len(images),
            predictor_of=lambda path: lambda images: [path.read_text()] * len(images),
            score_of=score_of,
            float_score=0.8,
            max_loss=max_loss,
            fine_tune=fine_tune,
        )

    return run


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
    with pytest.raises(ValueError, match=r"top1 falls by 0\.080 to 0\.720, more than --max_loss 0\.01") as error:
        find(stub)
    assert "first.weight (0.50), second.weight (0.25)" in str(error.value)
    assert "try --finetune, train a larger width, or allow it with a larger --max_loss" in str(error.value)
    assert "0.7200" in capsys.readouterr().err
    assert find(stub, max_loss=0.1)[0].title == CORRECTED.title


def test_without_validation_images_nothing_is_lost_that_could_be_told(find: Any) -> None:
    assert find(Stub((0.15, 0.01), ()))[0].score is None


def test_divergence_is_that_of_scipy() -> None:
    from scipy.special import rel_entr

    p, q = (np.random.default_rng(seed).dirichlet(np.ones(5), 7).astype(np.float32) for seed in (0, 1))
    assert divergence(p, q) == pytest.approx(rel_entr(p, q).sum(1).mean(), rel=1e-5)
    assert divergence(p, p) == 0
    assert math.isfinite(divergence(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[::-1]))
