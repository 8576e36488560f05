"""How far off: shares of photos within some distances, the median, and what one guess for all would score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.sphere import Floats, chord, distance_km, unit_vectors
from datasets.types import Place
from tasks.common.task import Metric
from tasks.geolocation.draw import draw_distances

DISTANCES = "distances.png"


class GeolocationMetric(Metric[Place]):
    """Shares within thresholds, and the median distance in km.

    The baseline, `constant_...`, is one and the same guess for all photos: that of the training places which scores
    best on these very photos, chosen anew for each number: no other constant guess at one of them scores more.

    Source: Hays and Efros 2008 (Im2GPS) for the distances; Weyand et al. 2016 (arXiv:1602.05314), section 4.
    """

    def __init__(self, thresholds_km: Sequence[float], guesses: tuple[Floats, Floats]) -> None:
        """Args: thresholds_km: distances; guesses: latitudes and longitudes that the constant guess is chosen from."""
        self._thresholds_km = thresholds_km
        self._guesses = guesses
        self._places: list[Floats] = []  # (N, 4) of each batch: where a photo is said to be, and where it is

    def update(self, predicted: Sequence[Place], truth: Sequence[Place]) -> None:
        """Take in some photos."""
        pairs = zip(predicted, truth, strict=True)
        self._places.append(np.array([(a.lat_deg, a.lng_deg, b.lat_deg, b.lng_deg) for a, b in pairs]))

    def merge(self, other: GeolocationMetric) -> None:
        """Take in another one's photos."""
        self._places += other._places

    def compute(self) -> dict[str, float]:
        """within_<t>km in [0, 1] for each threshold, median_km, and the same of the best constant guess."""
        distances = self._distances_km()
        scores = {within(t): _share(distances, t) for t in self._thresholds_km}
        scores["median_km"] = float(np.median(distances)) if len(distances) else float("nan")
        return scores | self._baseline()

    def write_details(self, folder: Path) -> None:
        """The share of photos within every distance, beside the best constant guesses: `distances.png`."""
        scores = self._baseline()
        baseline = {t: scores[f"constant_{within(t)}"] for t in self._thresholds_km}
        draw_distances(self._distances_km(), baseline, folder / DISTANCES)

    def _distances_km(self) -> Floats:
        """From prediction to truth, (N,)."""
        return distance_km(*np.concatenate(self._places).T) if self._places else np.zeros(0)

    def _baseline(self) -> dict[str, float]:
        """Photos and guesses are compared by the cosines of unit vectors, ten times as fast as by haversines."""
        names = [f"constant_{within(t)}" for t in self._thresholds_km] + ["constant_median_km"]
        if not self._places or not len(self._guesses[0]):
            return dict.fromkeys(names, float("nan"))
        places = np.concatenate(self._places)[:, 2:]
        truth = unit_vectors(*places.T)
        nearest = [1 - chord(t) ** 2 / 2 for t in self._thresholds_km]  # cosines of the thresholds
        most, median_km = np.zeros(len(nearest)), np.inf
        for lat_deg, lng_deg, guess in zip(*self._guesses, unit_vectors(*self._guesses), strict=True):
            cosines = truth @ guess
            most = np.maximum(most, [np.count_nonzero(cosines >= t) for t in nearest])
            # Only where half of the photos are nearer than the best median so far can a median be smaller.
            if 2 * np.count_nonzero(cosines > 1 - chord(median_km) ** 2 / 2) >= len(truth):
                median_km = min(median_km, float(np.median(distance_km(lat_deg, lng_deg, *places.T))))
        return dict(zip(names, [*(most / len(truth)).tolist(), median_km], strict=True))


def within(threshold_km: float) -> str:
    """The name of a score, for example within_750km."""
    return f"within_{threshold_km:g}km"


def _share(distances: Floats, threshold_km: float) -> float:
    return float((distances <= threshold_km).mean()) if len(distances) else float("nan")
