"""Distances against scikit-learn and s2geometry; means and directions by hand."""

import numpy as np
import pytest
import s2geometry
from sklearn.metrics.pairwise import haversine_distances

from datasets.sphere import EARTH_RADIUS_KM, chord, distance_km, places_of, unit_vectors


def random_places(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    return np.degrees(np.arcsin(rng.uniform(-1, 1, number))), rng.uniform(-180, 180, number)


def test_distances_are_those_of_scikit_learn_and_s2(rng: np.random.Generator) -> None:
    lat_deg, lng_deg = random_places(rng, 50)
    lat_deg[:3], lng_deg[:3] = (90, -90, 0), (0, 30, 180)
    ours = distance_km(lat_deg[:, None], lng_deg[:, None], lat_deg, lng_deg)
    points = np.radians(np.stack([lat_deg, lng_deg], 1))
    np.testing.assert_allclose(ours, EARTH_RADIUS_KM * haversine_distances(points), atol=1e-6)
    a, b = (s2geometry.S2LatLng.FromDegrees(lat_deg[row], lng_deg[row]) for row in (7, 8))
    assert ours[7, 8] == pytest.approx(EARTH_RADIUS_KM * a.GetDistance(b).radians(), abs=1e-6)


def test_a_quarter_of_the_way_around() -> None:
    assert distance_km(0, 0, 0, 90) == pytest.approx(np.pi / 2 * 6371.0088)
    assert distance_km(90, 12, -90, -50) == pytest.approx(np.pi * 6371.0088)
    assert distance_km(10, 179.5, 10, -179.5) == pytest.approx(distance_km(10, 0, 10, 1))


def test_directions_come_back_as_places(rng: np.random.Generator) -> None:
    lat_deg, lng_deg = random_places(rng, 100)
    lat, lng = places_of(3 * unit_vectors(lat_deg, lng_deg))
    np.testing.assert_allclose((lat, lng), (lat_deg, lng_deg), atol=1e-9)


def test_chord_is_the_straight_distance() -> None:
    a, b = unit_vectors(0, 0), unit_vectors(0, 40)
    assert chord(float(distance_km(0, 0, 0, 40))) == pytest.approx(np.linalg.norm(a - b))
    assert chord(1e9) == 2
