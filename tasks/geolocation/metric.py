"""How far off: shares of photos within some distances, the median, and what one guess for all would score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.sphere import Floats, distance_km
from datasets.types import Place
from tasks.geolocation.draw import draw_distances

DISTANCES = "distances.png"


class GeolocationMetric:
    """Shares within thresholds, and the median distance in km.

    The baseline, `constant_...`, is one and the same guess for all photos: that of the training places which scores
    best on these very photos, chosen anew for each number: no other constant guess at one of them scores more.

    Source: Hays and Efros 2008 (Im2GPS) for the distances; Weyand et al. 2016 (arXiv:1602.05314), section 4.
    """

    def __init__(self, thresholds_km: Sequence[float], guesses: tuple[Floats, Floats]) -> None:
        """Args: thresholds_km: distances; guesses: latitudes and longitudes that the constant guess is chosen from."""
        self._thresholds_km = thresholds_km
        self._guesses = guesses
        self._predicted: list[tuple[float, float]] = []
        self._truth: list[tuple[float, float]] = []

    def update(self, predicted: Sequence[Place], truth: Sequence[Place]) -> None:
        """Take in some photos."""
        self._predicted += [(place.lat_deg, place.lng_deg) for place in predicted]
        self._truth += [(place.lat_deg, place.lng_deg) for place in truth]

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
        if not self._truth:
            return np.zeros(0)
        return distance_km(*np.array(self._predicted).T, *np.array(self._truth).T)

    def _baseline(self) -> dict[str, float]:
        names = [f"constant_{within(t)}" for t in self._thresholds_km] + ["constant_median_km"]
        if not self._truth or not len(self._guesses[0]):
            return dict.fromkeys(names, float("nan"))
        truth = np.array(self._truth).T
        scores = []
        for lat_deg, lng_deg in zip(*self._guesses, strict=True):
            distances = distance_km(lat_deg, lng_deg, *truth)
            scores.append([_share(distances, t) for t in self._thresholds_km] + [-np.median(distances)])
        *shares, median = np.max(scores, 0).tolist()
        return dict(zip(names, [*shares, -median], strict=True))


def within(threshold_km: float) -> str:
    """The name of a score, for example within_750km."""
    return f"within_{threshold_km:g}km"


def _share(distances: Floats, threshold_km: float) -> float:
    return float((distances <= threshold_km).mean()) if len(distances) else float("nan")
