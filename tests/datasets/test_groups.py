"""Splits without leakage: laws for any names and coordinates."""

import hashlib

import numpy as np
import pytest

from datasets.groups import cell_names, near_rows, validation_rows
from datasets.sphere import EARTH_RADIUS_KM, distance_km, to_lat_lng


def hash_of(name: str) -> int:
    return int(hashlib.blake2b(name.encode(), digest_size=6).hexdigest(), 16)


def side_of(names: list[str], val_fraction: float) -> dict[str, bool]:
    return dict(zip(names, validation_rows(names, val_fraction).tolist(), strict=True))


def test_a_hash_of_the_name_decides() -> None:
    names = [f"é{index}.jpg" for index in range(2000)]
    is_val = validation_rows(names, 0.2)
    assert is_val.tolist() == [5 * hash_of(name) < 1 << 48 for name in names]
    assert is_val.mean() == pytest.approx(0.2, abs=0.03)  # 3.4 standard deviations
    assert (validation_rows(names, 0.3) >= is_val).all()  # a larger fraction only adds names
    assert validation_rows(["a\udcff.jpg", "b"], 0.5).sum() == 1  # a file name that is not UTF-8


def test_added_names_move_no_others() -> None:
    names = [f"{index}" for index in range(300)]
    before, after = side_of(names, 0.2), side_of([f"new {index}" for index in range(300)] + names, 0.2)
    assert {name: after[name] for name in names} == before


def test_the_fallback_has_the_smallest_or_the_largest_hash() -> None:
    names = [f"{index}" for index in range(9)]
    in_order = sorted(names, key=hash_of)
    assert [name for name, is_val in side_of(names, 1e-9).items() if is_val] == in_order[:1]
    assert [name for name, is_val in side_of(names, 1 - 1e-9).items() if not is_val] == in_order[-1:]


@pytest.mark.parametrize("val_fraction", [0.001, 0.05, 0.5, 0.95, 0.999])
def test_neither_side_is_empty_and_only_a_fallback_changes_sides(val_fraction: float) -> None:
    for trial in range(50):
        names = [f"{trial}/{index}" for index in range(6)]
        before = side_of(names[:2], val_fraction)
        for num_names in range(3, 7):
            after = side_of(names[:num_names], val_fraction)
            assert 0 < sum(after.values()) < num_names
            moved = [name for name in before if after[name] != before[name]]
            assert len(moved) <= 1
            # It was the only one on its side.
            assert all(list(before.values()).count(before[name]) == 1 for name in moved)
            before = after


def test_photos_of_one_name_stay_together_and_a_fraction_of_1_takes_all() -> None:
    names = [f"{index % 40}" for index in range(500)]
    is_val = validation_rows(names, 0.2)
    sides = {(name, bool(side)) for name, side in zip(names, is_val, strict=True)}
    assert len(sides) == 40
    assert validation_rows(names, 1).all()
    assert validation_rows(["alone"], 1).all()


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
