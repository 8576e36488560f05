"""Distance metrics: fractions of photos within thresholds, the median, and the best constant prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.geolocation.sphere import Floats, chord, distance_km, to_unit_vectors
from datasets.types import Place
from tasks.common.inference_task import Metric
from tasks.geolocation.draw import draw_distances

DISTANCES = "distances.png"


class GeolocationMetric(Metric[Place]):
    """Fractions within thresholds, and the median distance in km.

    The baseline, `constant_...`, predicts the same coordinates for all photos: the candidate that scores best
    on the evaluated photos, chosen for each score separately, so that no other candidate scores higher.

    Source: Hays and Efros 2008 (Im2GPS) for the distances; Weyand et al. 2016 (arXiv:1602.05314), section 4.
    """

    def __init__(self, thresholds_km: Sequence[float], candidates: tuple[Floats, Floats]) -> None:
        """Args: thresholds_km: distances; candidates: latitudes and longitudes of constant predictions."""
        self._thresholds_km = thresholds_km
        self._candidates = candidates
        self._coordinates: list[Floats] = []  # (N, 4) of each batch: latitude, longitude, predicted and true

    def update(self, predicted: Sequence[Place], truth: Sequence[Place]) -> None:
        """Add a batch."""
        pairs = zip(predicted, truth, strict=True)
        self._coordinates.append(np.array([(a.lat_deg, a.lng_deg, b.lat_deg, b.lng_deg) for a, b in pairs]))

    def merge(self, other: GeolocationMetric) -> None:
        """Add the photos of another metric."""
        self._coordinates += other._coordinates

    def compute(self) -> dict[str, float]:
        """within_<t>km in [0, 1] for each threshold, median_km, and both for the best constant prediction."""
        distances = self._distances_km()
        scores = {within(t): _fraction_within(distances, t) for t in self._thresholds_km}
        scores["median_km"] = float(np.median(distances)) if len(distances) else float("nan")
        return scores | self._baseline()

    def write_details(self, folder: Path) -> None:
        """Plot the fraction of photos within every distance, and the baseline: `distances.png`."""
        scores = self._baseline()
        baseline = {t: scores[f"constant_{within(t)}"] for t in self._thresholds_km}
        draw_distances(self._distances_km(), baseline, folder / DISTANCES)

    def _distances_km(self) -> Floats:
        """From prediction to truth, (N,)."""
        return distance_km(*np.concatenate(self._coordinates).T) if self._coordinates else np.zeros(0)

    def _baseline(self) -> dict[str, float]:
        """By cosines of unit vectors, ten times as fast as by haversines."""
        names = [f"constant_{within(t)}" for t in self._thresholds_km] + ["constant_median_km"]
        if not self._coordinates or not len(self._candidates[0]):
            return dict.fromkeys(names, float("nan"))
        coordinates = np.concatenate(self._coordinates)[:, 2:]
        truth = to_unit_vectors(*coordinates.T)
        min_cosines = [1 - chord(t) ** 2 / 2 for t in self._thresholds_km]
        max_counts, median_km = np.zeros(len(min_cosines)), np.inf
        for lat_deg, lng_deg, candidate in zip(*self._candidates, to_unit_vectors(*self._candidates), strict=True):
            cosines = truth @ candidate
            max_counts = np.maximum(max_counts, [np.count_nonzero(cosines >= t) for t in min_cosines])
            # The median can only be smaller if half of the photos are nearer than the smallest median so far.
            if 2 * np.count_nonzero(cosines > 1 - chord(median_km) ** 2 / 2) >= len(truth):
                median_km = min(median_km, float(np.median(distance_km(lat_deg, lng_deg, *coordinates.T))))
        return dict(zip(names, [*(max_counts / len(truth)).tolist(), median_km], strict=True))


def within(threshold_km: float) -> str:
    """The name of a score, for example within_750km."""
    return f"within_{threshold_km:g}km"


def _fraction_within(distances: Floats, threshold_km: float) -> float:
    return float((distances <= threshold_km).mean()) if len(distances) else float("nan")
