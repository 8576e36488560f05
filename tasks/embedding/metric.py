"""Verification and identification scores: LFW's protocol on its pairs, or all pairs of unseen identities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.faces import Pair, Photo
from datasets.types import Face
from tasks.common.evaluation.report import write_csv
from tasks.common.inference_task import Metric
from tasks.embedding.draw import draw_roc, draw_space
from tasks.embedding.verification import Bools, Floats, OperatingPoint, fold_accuracies, operating_points

ROC, SPACE, RATES, HARDEST = "roc.png", "embeddings.png", "rates.csv", "hardest_pairs.csv"
MAX_PHOTOS = 4000  # 8 million pairs
NUM_HARDEST = 20


class ScoredPairs(NamedTuple):
    """Pairs of photos with their similarities.

    Attributes:
        first: (P,) rows of photos.
        second: (P,) rows of photos.
        same: (P,), whether both show one identity.
        folds: (P,) fold indices; None for all pairs.
        similarities: (P,), cosines.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: Bools
    folds: NDArray[np.int64] | None
    similarities: Floats


class VerificationMetric(Metric[Face]):
    """Face verification by the cosine similarity of embeddings.

    With folds of pairs: LFW accuracy, the mean over the folds, each at the threshold that is best on the other folds,
    and its standard deviation. As the protocol requires, all pairs count: one with a missing photo, for example because
    no face was detected, is an error. Without folds: all pairs of at most 4000 evenly spaced photos, and
    nearest-neighbour accuracy. In both cases: the area under the ROC and the true accept rates at the given false
    accept rates, over the pairs that could be compared; NaN with fewer than 1 / rate impostor pairs.

    Source: Huang et al. 2007 (Labeled Faces in the Wild); Howard et al. 2017, Table 14 (TAR at FAR 1e-4).
    """

    def __init__(self, fars: tuple[float, ...], folds: Sequence[Sequence[Pair]] | None) -> None:
        """Args: fars: false accept rates; folds: LFW's pairs; None for all pairs."""
        self._fars = fars
        self._folds = folds
        self._photos: list[Photo] = []
        self._embeddings: list[NDArray[np.float32]] = []  # (N, D) of each batch

    def update(self, predicted: Sequence[Face], truth: Sequence[Face]) -> None:
        """Add a batch."""
        for face in truth:
            assert face.identity is not None
            assert face.image_number is not None
            self._photos.append(Photo(face.identity, face.image_number))
        self._embeddings.append(stack_embeddings(predicted))

    def merge(self, other: VerificationMetric) -> None:
        """Append the photos of another metric."""
        self._photos += other._photos
        self._embeddings += other._embeddings

    def compute(self) -> dict[str, float]:
        """Scores in [0, 1]; NaN without both genuine and impostor pairs."""
        from sklearn.metrics import roc_auc_score  # slow to import

        pairs = self._compare()
        scores: dict[str, float] = {}
        if self._folds is not None:
            scores |= self._accuracy(pairs, self._folds)
        has_both = pairs.same.any() and not pairs.same.all()
        scores["auc"] = float(roc_auc_score(pairs.same, pairs.similarities)) if has_both else float("nan")
        scores |= {f"tar_at_far_{_format_rate(point.far)}": point.tar for point in self._operating_points(pairs)}
        if pairs.folds is None:
            scores |= self._identification()
        return scores

    def write_details(self, folder: Path) -> None:
        """Write `roc.png`, `rates.csv` with thresholds, `embeddings.png` and `hardest_pairs.csv`."""
        pairs = self._compare()
        points = self._operating_points(pairs)
        write_csv(folder / RATES, [point._asdict() for point in points])
        draw_roc(pairs.similarities, pairs.same, points, folder / ROC)
        draw_space(self._all_embeddings(), [photo.identity for photo in self._photos], folder / SPACE)
        write_csv(folder / HARDEST, self._hardest(pairs))

    def _accuracy(self, pairs: ScoredPairs, folds: Sequence[Sequence[Pair]]) -> dict[str, float]:
        """LFW accuracy, and that of a constant decision; NaN if no pair could be compared."""
        names = ("lfw_accuracy", "lfw_accuracy_std", "chance_accuracy")
        if pairs.folds is None or not len(pairs.folds):
            return dict.fromkeys(names, float("nan"))
        accuracies = fold_accuracies(pairs.similarities, pairs.same, pairs.folds, [len(fold) for fold in folds])
        prevalence = float(np.mean([pair.same for fold in folds for pair in fold]))
        chance = max(prevalence, 1 - prevalence)
        return dict(zip(names, (float(accuracies.mean()), float(accuracies.std()), chance), strict=True))

    def _operating_points(self, pairs: ScoredPairs) -> list[OperatingPoint]:
        return operating_points(pairs.similarities, pairs.same, self._fars)

    def _compare(self) -> ScoredPairs:
        """The similarities of all pairs, or of those in the folds."""
        ids, embeddings = self._identity_ids(), self._all_embeddings()
        if self._folds is None:
            rows, folds = _evenly_spaced(len(self._photos)), None
            i, j = np.triu_indices(len(rows), 1)
            first, second = rows[i], rows[j]
            similarities = (embeddings[rows] @ embeddings[rows].T)[i, j]
        else:
            first, second, folds = self._rows_of_pairs(self._folds)
            similarities = (embeddings[first] * embeddings[second]).sum(1)
        return ScoredPairs(first, second, ids[first] == ids[second], folds, similarities.astype(np.float64))

    def _rows_of_pairs(self, folds: Sequence[Sequence[Pair]]) -> NDArray[np.int64]:
        """(3, P): the rows of both photos, and the fold, of each pair that can be compared."""
        row_of = {photo: row for row, photo in enumerate(self._photos)}
        found = [
            (row_of[pair.first], row_of[pair.second], fold)
            for fold, pairs in enumerate(folds)
            for pair in pairs
            if pair.first in row_of and pair.second in row_of
        ]
        num_pairs = sum(map(len, folds))
        if len(found) < num_pairs:
            warnings.warn(
                f"{num_pairs - len(found)} of {num_pairs} pairs cannot be compared: a photo is missing or has no face; "
                f"lfw_accuracy counts them as wrong, the other scores use the remaining {len(found)}",
                stacklevel=2,
            )
        return np.array(found, np.int64).reshape(-1, 3).T

    def _identification(self) -> dict[str, float]:
        """Nearest-neighbour accuracy over the photos whose identity has more than one."""
        rows = _evenly_spaced(len(self._photos))
        ids, embeddings = self._identity_ids()[rows], self._all_embeddings()[rows]
        num_matches = np.bincount(ids, minlength=1)[ids] - 1
        has_match = num_matches > 0
        if not has_match.any():
            return {"nn_accuracy": float("nan"), "chance_nn_accuracy": float("nan")}
        cosines = embeddings @ embeddings.T
        np.fill_diagonal(cosines, -np.inf)
        correct = ids[cosines.argmax(1)] == ids
        return {
            "nn_accuracy": float(correct[has_match].mean()),
            "chance_nn_accuracy": float((num_matches[has_match] / (len(ids) - 1)).mean()),
        }

    def _hardest(self, pairs: ScoredPairs) -> list[dict[str, object]]:
        """The least similar genuine pairs, and the most similar impostor pairs."""
        order = np.argsort(pairs.similarities, kind="stable")
        same = pairs.same[order]
        chosen = np.concatenate([order[same][:NUM_HARDEST], order[~same][::-1][:NUM_HARDEST]])
        rows: list[dict[str, object]] = []
        for index in chosen.tolist():
            row: dict[str, object] = {"same": bool(pairs.same[index]), "similarity": float(pairs.similarities[index])}
            for side, photo_rows in (("first", pairs.first), ("second", pairs.second)):
                photo = self._photos[int(photo_rows[index])]
                row |= {f"{side}_identity": photo.identity, f"{side}_photo": photo.number}
            rows.append(row)
        return rows

    def _identity_ids(self) -> NDArray[np.int64]:
        _, ids = np.unique([photo.identity for photo in self._photos], return_inverse=True)
        return ids.astype(np.int64)

    def _all_embeddings(self) -> NDArray[np.float32]:
        return np.concatenate(self._embeddings) if self._embeddings else stack_embeddings([])


def _evenly_spaced(num_photos: int) -> NDArray[np.int64]:
    """Rows of at most `MAX_PHOTOS` photos."""
    return np.unique(np.linspace(0, num_photos - 1, min(num_photos, MAX_PHOTOS)).astype(np.int64))


def _format_rate(far: float) -> str:
    """For example 1e-3."""
    return np.format_float_scientific(far, trim="-", exp_digits=1)


def stack_embeddings(predicted: Sequence[Face]) -> NDArray[np.float32]:
    """The embeddings (N, D) of N predictions; (0, 1) if there are none."""
    embeddings = [face.embedding for face in predicted if face.embedding is not None]
    assert len(embeddings) == len(predicted)
    return np.stack(embeddings) if embeddings else np.zeros((0, 1), np.float32)
