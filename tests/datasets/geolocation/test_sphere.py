"""Distances against scikit-learn and s2geometry; round trips and values by hand."""

import numpy as np
import pytest
import s2geometry
from sklearn.metrics.pairwise import haversine_distances

from datasets.geolocation.sphere import EARTH_RADIUS_KM, chord, distance_km, to_lat_lng, to_unit_vectors


def random_coordinates(rng: np.random.Generator, num_points: int) -> tuple[np.ndarray, np.ndarray]:
    return np.degrees(np.arcsin(rng.uniform(-1, 1, num_points))), rng.uniform(-180, 180, num_points)


def test_distances_equal_those_of_scikit_learn_and_s2(rng: np.random.Generator) -> None:
    lat_deg, lng_deg = random_coordinates(rng, 50)
    lat_deg[:3], lng_deg[:3] = (90, -90, 0), (0, 30, 180)
    ours = distance_km(lat_deg[:, None], lng_deg[:, None], lat_deg, lng_deg)
    points = np.radians(np.stack([lat_deg, lng_deg], 1))
    np.testing.assert_allclose(ours, EARTH_RADIUS_KM * haversine_distances(points), atol=1e-6)
    a, b = (s2geometry.S2LatLng.FromDegrees(lat_deg[row], lng_deg[row]) for row in (7, 8))
    assert ours[7, 8] == pytest.approx(EARTH_RADIUS_KM * a.GetDistance(b).radians(), abs=1e-6)


def test_distances_of_a_quarter_and_a_half_circle() -> None:
    assert distance_km(0, 0, 0, 90) == pytest.approx(np.pi / 2 * 6371.0088)
    assert distance_km(90, 12, -90, -50) == pytest.approx(np.pi * 6371.0088)
    assert distance_km(10, 179.5, 10, -179.5) == pytest.approx(distance_km(10, 0, 10, 1))


def test_vectors_and_coordinates_are_inverse(rng: np.random.Generator) -> None:
    lat_deg, lng_deg = random_coordinates(rng, 100)
    lat, lng = to_lat_lng(3 * to_unit_vectors(lat_deg, lng_deg))
    np.testing.assert_allclose((lat, lng), (lat_deg, lng_deg), atol=1e-9)


def test_chord_is_the_distance_of_unit_vectors() -> None:
    a, b = to_unit_vectors(0, 0), to_unit_vectors(0, 40)
    assert chord(float(distance_km(0, 0, 0, 40))) == pytest.approx(np.linalg.norm(a - b))
    assert chord(1e9) == 2
