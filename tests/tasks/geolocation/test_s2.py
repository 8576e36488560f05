"""Cell ids against s2geometry, the reference implementation, and s2cell."""

import numpy as np
import pytest
import s2cell
import s2geometry

from tasks.geolocation import s2


def coordinates(rng: np.random.Generator, num_points: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Uniform on the sphere, and special cases."""
    lat_deg, lng_deg = np.degrees(np.arcsin(rng.uniform(-1, 1, num_points))), rng.uniform(-180, 180, num_points)
    special = np.array([(90, 0), (-90, 77), (0, 0), (0, 180), (0, -180), (45, 45), (-35.3, -135), (10, 179.9999)])
    return np.r_[lat_deg, special[:, 0]], np.r_[lng_deg, special[:, 1]]


def test_leaf_cells_equal_those_of_s2geometry(rng: np.random.Generator) -> None:
    lat_deg, lng_deg = coordinates(rng)
    expected = [
        s2geometry.S2CellId(s2geometry.S2LatLng.FromDegrees(lat, lng)).id()
        for lat, lng in zip(lat_deg.tolist(), lng_deg.tolist(), strict=True)
    ]
    assert s2.leaf_cells(lat_deg, lng_deg).tolist() == expected


def test_results_do_not_depend_on_the_chunk_size(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    lat_deg, lng_deg = coordinates(rng)
    whole = s2.leaf_cells(lat_deg, lng_deg)
    monkeypatch.setattr(s2, "CHUNK", 100)
    np.testing.assert_array_equal(s2.leaf_cells(lat_deg, lng_deg), whole)


@pytest.mark.parametrize("level", [0, 1, 7, 29, 30])
def test_parents_and_children_equal_those_of_s2geometry(rng: np.random.Generator, level: int) -> None:
    leaves = s2.leaf_cells(*coordinates(rng, 30))
    cells = s2.parents(leaves, level)
    for leaf, cell in zip(leaves.tolist(), cells.tolist(), strict=True):
        reference = s2geometry.S2CellId(cell)
        assert cell == s2cell.cell_id_to_parent_cell_id(leaf, level)
        assert reference.range_min().id() == s2.first_leaf(np.array([cell], np.uint64))[0]
        assert reference.range_max().id() == s2.last_leaf(np.array([cell], np.uint64))[0]
        if level < s2.MAX_LEVEL:
            expected = [reference.child(index).id() for index in range(4)]
            assert s2.children(np.array([cell], np.uint64)).tolist() == expected


def test_faces_are_the_six_cells_of_level_0() -> None:
    assert [s2cell.cell_id_to_level(cell) for cell in s2.face_cells().tolist()] == [0] * 6
    assert len(set(s2.face_cells().tolist())) == 6
