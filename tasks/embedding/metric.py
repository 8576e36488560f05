"""Verification and identification: LFW's protocol on its pairs, or all pairs of unseen persons."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from datasets.faces import Pair, Photo
from datasets.types import Face
from tasks.common.evaluation.report import write_csv
from tasks.common.task import Metric
from tasks.embedding.draw import draw_roc, draw_space
from tasks.embedding.verification import Bools, FarPoint, Floats, far_points, fold_accuracies

ROC, SPACE, RATES, HARDEST = "roc.png", "embeddings.png", "rates.csv", "hardest_pairs.csv"
MAX_PHOTOS = 4000  # of all pairs: 8 million
NUM_HARDEST = 20


class Compared(NamedTuple):
    """Pairs of photos.

    Attributes:
        first: (P,) rows of photos.
        second: (P,) rows of photos.
        same: (P,), whether they show one person.
        folds: (P,); None where the pairs are all there are.
        similarities: (P,), cosines.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: Bools
    folds: NDArray[np.int64] | None
    similarities: Floats


class VerificationMetric(Metric[Face]):
    """Whether two photos show one person, by the cosine of their embeddings.

    With folds of pairs: LFW's accuracy, the mean over folds, each at the threshold that is best on the others, and its
    standard deviation between folds. It is of all pairs, as the protocol asks: one with a photo that is missing, for
    example because no face was found in it, counts as a wrong decision. Without folds: all pairs of at most 4000 photos
    spread evenly, and for each photo whether the most similar other one shows the same person. Both: the area under the
    ROC, and the true accept rate at some false accept rates, not a number where there are not 1 / rate pairs of
    different persons; they are of the pairs that could be compared.

    Source: Huang et al. 2007 (Labeled Faces in the Wild); Howard et al. 2017, Table 14, for the rate at 1e-4.
    """

    def __init__(self, fars: tuple[float, ...], folds: Sequence[Sequence[Pair]] | None) -> None:
        """Args: fars: false accept rates; folds: LFW's pairs; None for all pairs."""
        self._fars = fars
        self._folds = folds
        self._photos: list[Photo] = []
        self._embeddings: list[NDArray[np.float32]] = []

    def update(self, predicted: Sequence[Face], truth: Sequence[Face]) -> None:
        """Take in some photos."""
        for guess, true in zip(predicted, truth, strict=True):
            assert guess.embedding is not None
            assert true.identity is not None
            assert true.number is not None
            self._photos.append(Photo(true.identity, true.number))
            self._embeddings.append(guess.embedding)

    def merge(self, other: VerificationMetric) -> None:
        """Take in another one's photos."""
        self._photos += other._photos
        self._embeddings += other._embeddings

    def compute(self) -> dict[str, float]:
        """Scores in [0, 1]; NaN where there are not both kinds of pairs."""
        pairs = self._compare()
        scores: dict[str, float] = {}
        if self._folds is not None:
            scores |= self._accuracy(pairs, self._folds)
        both = pairs.same.any() and not pairs.same.all()
        scores["auc"] = float(roc_auc_score(pairs.same, pairs.similarities)) if both else float("nan")
        scores |= {f"tar_at_far_{_text(point.far)}": point.tar for point in self._far_points(pairs)}
        if pairs.folds is None:
            scores |= self._identification()
        return scores

    def write_details(self, folder: Path) -> None:
        """`roc.png`, `rates.csv` with thresholds, `embeddings.png`, and the pairs that are hardest to tell."""
        pairs = self._compare()
        points = self._far_points(pairs)
        write_csv(folder / RATES, [point._asdict() for point in points])
        draw_roc(pairs.similarities, pairs.same, points, folder / ROC)
        draw_space(np.stack(self._embeddings), [photo.identity for photo in self._photos], folder / SPACE)
        write_csv(folder / HARDEST, self._hardest(pairs))

    def _accuracy(self, pairs: Compared, folds: Sequence[Sequence[Pair]]) -> dict[str, float]:
        """LFW's accuracy, and that of one answer to all pairs; NaN where no pair could be compared."""
        names = ("lfw_accuracy", "lfw_accuracy_std", "chance_accuracy")
        if pairs.folds is None or not len(pairs.folds):
            return dict.fromkeys(names, float("nan"))
        accuracies = fold_accuracies(pairs.similarities, pairs.same, pairs.folds, [len(fold) for fold in folds])
        share = _share(np.array([pair.same for fold in folds for pair in fold]))
        return dict(zip(names, (float(accuracies.mean()), float(accuracies.std()), max(share, 1 - share)), strict=True))

    def _far_points(self, pairs: Compared) -> list[FarPoint]:
        return far_points(pairs.similarities, pairs.same, self._fars)

    def _compare(self) -> Compared:
        """The pairs of the photos that were taken in."""
        ids, embeddings = self._identity_ids(), self._stacked()
        if self._folds is None:
            rows, folds = _spread(len(self._photos)), None
            i, j = np.triu_indices(len(rows), 1)
            first, second = rows[i], rows[j]
            similarities = (embeddings[rows] @ embeddings[rows].T)[i, j]
        else:
            first, second, folds = self._rows_of_pairs(self._folds)
            similarities = (embeddings[first] * embeddings[second]).sum(1)
        return Compared(first, second, ids[first] == ids[second], folds, similarities.astype(np.float64))

    def _rows_of_pairs(self, folds: Sequence[Sequence[Pair]]) -> NDArray[np.int64]:
        """Rows of both photos, and the fold, of each pair whose photos are there: (3, P)."""
        row_of = {photo: row for row, photo in enumerate(self._photos)}
        found = [
            (row_of[pair.first], row_of[pair.second], fold)
            for fold, pairs in enumerate(folds)
            for pair in pairs
            if pair.first in row_of and pair.second in row_of
        ]
        number = sum(map(len, folds))
        if len(found) < number:
            warnings.warn(
                f"{number - len(found)} of {number} pairs cannot be compared: a photo is missing or has no face; "
                f"lfw_accuracy counts them as wrong, the other scores are of the {len(found)} others",
                stacklevel=2,
            )
        return np.array(found, np.int64).reshape(-1, 3).T

    def _identification(self) -> dict[str, float]:
        """Of photos whose person has another: the share that is nearest to one of these."""
        rows = _spread(len(self._photos))
        ids, embeddings = self._identity_ids()[rows], self._stacked()[rows]
        others = np.bincount(ids, minlength=1)[ids] - 1
        known = others > 0
        if not known.any():
            return {"nn_accuracy": float("nan"), "chance_nn_accuracy": float("nan")}
        cosines = embeddings @ embeddings.T
        np.fill_diagonal(cosines, -np.inf)
        right = ids[cosines.argmax(1)] == ids
        return {
            "nn_accuracy": _share(right[known]),
            "chance_nn_accuracy": float((others[known] / (len(ids) - 1)).mean()),
        }

    def _hardest(self, pairs: Compared) -> list[dict[str, object]]:
        """The least similar pairs of one person, and the most similar of two."""
        order = np.argsort(pairs.similarities, kind="stable")
        same = pairs.same[order]
        chosen = np.concatenate([order[same][:NUM_HARDEST], order[~same][::-1][:NUM_HARDEST]])
        rows: list[dict[str, object]] = []
        for k in chosen.tolist():
            a, b = self._photos[int(pairs.first[k])], self._photos[int(pairs.second[k])]
            row = {"same": bool(pairs.same[k]), "similarity": float(pairs.similarities[k])}
            rows.append(row | {"first": a.identity, "photo": a.number, "second": b.identity, "other_photo": b.number})
        return rows

    def _identity_ids(self) -> NDArray[np.int64]:
        _, ids = np.unique([photo.identity for photo in self._photos], return_inverse=True)
        return ids.astype(np.int64)

    def _stacked(self) -> NDArray[np.float32]:
        return np.stack(self._embeddings) if self._embeddings else np.zeros((0, 1), np.float32)


def _spread(number: int) -> NDArray[np.int64]:
    """Rows of at most `MAX_PHOTOS` photos."""
    return np.unique(np.linspace(0, number - 1, min(number, MAX_PHOTOS)).astype(np.int64))


def _share(values: Bools) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _text(far: float) -> str:
    """For example 1e-3."""
    return np.format_float_scientific(far, trim="-", exp_digits=1)
