"""From places with weights to one place: both cells with probabilities and neighbours with similarities end here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.sphere import Floats, chord, places_of, unit_vectors

MAX_PLACES = 200  # the heaviest; what is lighter hardly moves the peak
MAX_STEPS, SMALL_STEP = 50, 1e-7  # of the mean shift; the latter on the unit sphere, 0.6 m


def densest_place(
    lat_deg: Floats, lng_deg: Floats, weights: NDArray[np.float32] | Floats, bandwidth_km: float | None
) -> tuple[float, float]:
    """Where weighted places are densest, by mean shift from the densest of them.

        density(x) = sum_i w_i exp(-|x - x_i|² / 2 h²),   x <- direction of sum_i w_i exp(-|x - x_i|² / 2 h²) x_i

    Args:
        lat_deg: (M,).
        lng_deg: (M,).
        weights: (M,), not negative.
        bandwidth_km: h, as a distance on the Earth; None for the heaviest place itself.

    Returns:
        Latitude and longitude in degrees.

    Source: Comaniciu and Meer 2002, section 2; on places: Hays and Efros 2008 (Im2GPS).
    """
    if bandwidth_km is None:
        row = int(weights.argmax())
        return float(lat_deg[row]), float(lng_deg[row])
    rows = np.argsort(-weights, kind="stable")[:MAX_PLACES]
    points, masses = unit_vectors(lat_deg[rows], lng_deg[rows]), weights[rows].astype(float)
    scale = -0.5 / chord(bandwidth_km) ** 2

    def bells(at: Floats) -> Floats:
        """(places,) weights as seen from (..., 3)."""
        seen: Floats = masses * np.exp(scale * np.square(at[..., None, :] - points).sum(-1))
        return seen

    peak = points[int(bells(points).sum(-1).argmax())]
    for _ in range(MAX_STEPS):
        shifted = bells(peak) @ points
        shifted /= np.linalg.norm(shifted)
        has_arrived = bool(np.abs(shifted - peak).max() < SMALL_STEP)
        peak = shifted
        if has_arrived:
            break
    lat, lng = places_of(peak)
    return float(lat), float(lng)
