"""Grid cells and neighbours: laws for any coordinates."""

import numpy as np
import pytest

from datasets.geolocation.groups import cell_names, near_rows
from datasets.geolocation.sphere import EARTH_RADIUS_KM, distance_km, to_lat_lng


def whole_earth(rng: np.random.Generator, num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates that are uniform on the sphere."""
    return to_lat_lng(rng.normal(size=(num_points, 3)))


@pytest.mark.parametrize("side_km", [400, 1000])
def test_cells_are_about_square_and_of_one_size(side_km: float, rng: np.random.Generator) -> None:
    lat_deg, lng_deg = whole_earth(rng, 200_000)
    names, cell_of, counts = np.unique(cell_names(lat_deg, lng_deg, side_km), return_inverse=True, return_counts=True)
    areas = counts / counts.sum() * 4 * np.pi * EARTH_RADIUS_KM**2
    assert np.abs(areas / side_km**2 - 1).max() < 0.5
    for cell in rng.choice(len(names), 100):
        lat, lng = lat_deg[cell_of == cell], lng_deg[cell_of == cell]
        assert distance_km(lat[:, None], lng[:, None], lat, lng).max() < 1.7 * side_km


def test_poles_and_the_antimeridian_are_in_one_cell_in_any_notation() -> None:
    lng_deg = np.array([-180, 180, 0, 57.3])
    for pole in (-90, 90):
        assert len(set(cell_names(np.full(4, pole), lng_deg, 10))) == 1
    for lat_deg in (-60.0, 0.0, 12.34):
        assert len(set(cell_names(np.full(2, lat_deg), lng_deg[:2], 10))) == 1
    assert len(set(cell_names(np.array([0.0, 0.0]), np.array([-0.001, 0.001]), 10))) <= 2
    (first, second) = cell_names(np.array([5.0, -5.0]), np.array([10.0, 10.0]), 10)
    assert first != second


@pytest.mark.parametrize("within_km", [0.01, 5, 700, 25_000])
def test_near_rows_equal_those_of_all_distances(within_km: float, rng: np.random.Generator) -> None:
    centres = np.array([(90, 0), (-90, 0), (0, 180), (0, -180), (51, 7)])[rng.integers(5, size=600)]
    spread = rng.normal(0, min(within_km, 4000) / 111, (600, 2))
    lat_deg = np.clip(centres[:, 0] + spread[:, 0], -90, 90)
    lng_deg = (centres[:, 1] + np.where(np.abs(lat_deg) > 80, 90, 1) * spread[:, 1] + 180) % 360 - 180
    lat_deg[:200], lng_deg[:200] = lat_deg[200:400], lng_deg[200:400]  # duplicates
    selected = rng.random(600) < 0.1
    distances = distance_km(lat_deg[:, None], lng_deg[:, None], lat_deg[selected], lng_deg[selected]).min(1)
    np.testing.assert_array_equal(
        near_rows(lat_deg, lng_deg, selected, within_km), (distances <= within_km) & ~selected
    )


def test_near_rows_across_the_antimeridian_and_the_pole() -> None:
    lat_deg, lng_deg = np.array([0.0, 0.0, 0.0, 89.999, 89.999]), np.array([179.999, -179.999, 178.0, 0.0, 180.0])
    selected = np.array([True, False, False, True, False])
    assert near_rows(lat_deg, lng_deg, selected, 1).tolist() == [False, True, False, False, True]
