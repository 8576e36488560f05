"""The mode of weighted locations: of cells with probabilities, or of neighbours with similarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.sphere import Floats, chord, to_lat_lng, to_unit_vectors

MAX_POINTS = 200  # with the largest weights; the others hardly move the mode
MAX_STEPS, TOLERANCE = 50, 1e-7  # the latter on the unit sphere, 0.6 m


def weighted_mode(
    lat_deg: Floats, lng_deg: Floats, weights: NDArray[np.float32] | Floats, bandwidth_km: float | None
) -> tuple[float, float]:
    """The mode of a Gaussian kernel density estimate, by mean shift from the densest of the points.

        density(x) = sum_i w_i exp(-|x - x_i|² / 2 h²),   x <- direction of sum_i w_i exp(-|x - x_i|² / 2 h²) x_i

    Args:
        lat_deg: (M,).
        lng_deg: (M,).
        weights: (M,), not negative.
        bandwidth_km: h, as a distance on the Earth; None for the point with the largest weight.

    Returns:
        Latitude and longitude in degrees.

    Source: Comaniciu and Meer 2002, section 2; on coordinates: Hays and Efros 2008 (Im2GPS).
    """
    if bandwidth_km is None:
        row = int(weights.argmax())
        return float(lat_deg[row]), float(lng_deg[row])
    rows = np.argsort(-weights, kind="stable")[:MAX_POINTS]
    points, point_weights = to_unit_vectors(lat_deg[rows], lng_deg[rows]), weights[rows].astype(float)
    scale = -0.5 / chord(bandwidth_km) ** 2

    def kernel_weights(x: Floats) -> Floats:
        """(..., 3) -> (..., M), each point's term of the density at x."""
        terms: Floats = point_weights * np.exp(scale * np.square(x[..., None, :] - points).sum(-1))
        return terms

    mode = points[int(kernel_weights(points).sum(-1).argmax())]
    for _ in range(MAX_STEPS):
        shifted = kernel_weights(mode) @ points
        shifted /= np.linalg.norm(shifted)
        has_converged = bool(np.abs(shifted - mode).max() < TOLERANCE)
        mode = shifted
        if has_converged:
            break
    lat, lng = to_lat_lng(mode)
    return float(lat), float(lng)
