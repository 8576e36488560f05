"""Partitionings: laws that hold for any photos, held against s2cell's own idea of a parent."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import s2cell

from datasets.sphere import distance_km, places_of
from tasks.geolocation.cells import Partitioning, divide, inside, read_cells, write_cells


def clustered(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Places around a few centres, some at a pole and across the antimeridian, and some in one and the same spot."""
    centres = np.r_[rng.normal(size=(8, 3)), [[0, 0, 1], [-1, 0, 0.3]]]
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    spread = 10.0 ** rng.uniform(-4, -0.5, len(centres))
    of = rng.integers(len(centres), size=number)
    lat_deg, lng_deg = places_of(centres[of] + rng.normal(size=(number, 3)) * spread[of, None])
    lat_deg[:40], lng_deg[:40] = lat_deg[0], lng_deg[0]
    return lat_deg, lng_deg


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("max_photos", "min_photos"), [(50, 5), (300, 1), (20, 20), (1, 1)])
def test_every_place_is_in_exactly_one_kept_cell_or_dropped(seed: int, max_photos: int, min_photos: int) -> None:
    lat_deg, lng_deg = clustered(np.random.default_rng(seed), 1500)
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[max_photos], min_photos=min_photos)
    position = {cell: number for number, cell in enumerate(partitioning.cells.tolist())}
    found = partitioning.find(lat_deg, lng_deg)
    places = list(zip(lat_deg.tolist(), lng_deg.tolist(), strict=True))
    ancestors = [[s2cell.lat_lon_to_cell_id(lat, lng, level) for level in range(31)] for lat, lng in places]
    num_in = Counter(cell for line in ancestors for cell in line)
    for line, cell_id in zip(ancestors, found.tolist(), strict=True):
        kept = [position[cell] for cell in line if cell in position]
        assert kept == ([cell_id] if cell_id >= 0 else [])
        if cell_id < 0:  # it was dropped: the first of its cells that needs no splitting has too few
            assert num_in[next(cell for cell in line if num_in[cell] <= max_photos)] < min_photos
    for cell, num_photos in zip(partitioning.cells.tolist(), partitioning.num_photos.tolist(), strict=True):
        level = s2cell.cell_id_to_level(cell)
        assert num_in[cell] == num_photos >= min_photos
        assert num_photos <= max_photos or level == 30
        if level:
            assert num_in[s2cell.cell_id_to_parent_cell_id(cell, level - 1)] > max_photos  # it had to be split


def test_the_mean_place_is_where_its_photos_are() -> None:
    """Across the antimeridian and around the pole, by hand."""
    lat_deg = np.array([10.0, 10.0, 89.0, 89.0, 89.0, 89.0])
    lng_deg = np.array([179.0, -179.0, 0.0, 90.0, 180.0, -90.0])
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[4], min_photos=1)
    at_line, at_pole = partitioning.find(np.array([10.0, 89.5]), np.array([180.0, 12.0])).tolist()
    assert partitioning.num_photos[[at_line, at_pole]].tolist() == [2, 4]
    assert distance_km(partitioning.lat_deg[at_pole], partitioning.lng_deg[at_pole], 90, 0) < 1e-6
    middle = distance_km(partitioning.lat_deg[at_line], partitioning.lng_deg[at_line], 10, 180)
    assert middle < 2  # the arc between them bends a little north of the parallel


def test_means_do_not_depend_on_how_many_are_computed_at_once(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lat_deg, lng_deg = clustered(rng, 1500)
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[30], min_photos=4)
    found = partitioning.find(lat_deg, lng_deg)
    for cell_id in range(0, len(partitioning), 7):
        phi, lam = np.radians(lat_deg[found == cell_id]), np.radians(lng_deg[found == cell_id])
        x, y, z = (np.cos(phi) * np.cos(lam)).sum(), (np.cos(phi) * np.sin(lam)).sum(), np.sin(phi).sum()
        expected = np.degrees([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)])
        ours = (partitioning.lat_deg[cell_id], partitioning.lng_deg[cell_id])
        assert distance_km(*ours, *expected) < 1e-4
    monkeypatch.setattr("tasks.geolocation.cells.CELLS_AT_ONCE", 3)
    (again,) = divide(lat_deg, lng_deg, max_photos=[30], min_photos=4)
    np.testing.assert_allclose(again.lat_deg, partitioning.lat_deg, atol=1e-9)


def test_fine_cells_are_inside_coarse_ones(rng: np.random.Generator) -> None:
    lat_deg, lng_deg = clustered(rng, 1500)
    coarse, fine = divide(lat_deg, lng_deg, max_photos=[200, 20], min_photos=5)
    around = inside(fine, coarse)
    assert (around >= 0).all()
    found = fine.find(lat_deg, lng_deg)
    np.testing.assert_array_equal(around[found[found >= 0]], coarse.find(lat_deg, lng_deg)[found >= 0])


def test_too_few_photos_for_any_cell() -> None:
    with pytest.raises(ValueError, match=r"cells.min_photos: no cell has 50 of the 3 training photos"):
        divide(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]), max_photos=[100], min_photos=50)


def same(a: Partitioning, b: Partitioning) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_cells_come_back_from_file_and_json(rng: np.random.Generator, tmp_path: Path) -> None:
    partitionings = divide(*clustered(rng, 1500), max_photos=[200, 20], min_photos=5)
    write_cells(tmp_path / "cells.csv", partitionings)
    again = read_cells(tmp_path / "cells.csv")
    assert all(same(a, b) for a, b in zip(partitionings, again, strict=True))
    assert all(same(p, Partitioning.from_json(p.to_json())) for p in partitionings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "not a cell file: expected the columns partitioning, cell"),
        ("partitioning,cell,lat_deg,lng_deg,num_photos\n0,zz,1,2,3\n", "line 2: 'zz' is no S2 cell"),
        ("partitioning,cell,lat_deg,lng_deg,num_photos\n0,89c25,1\n", "line 2: "),
        (
            "partitioning,cell,lat_deg,lng_deg,num_photos\n0,89c,1,2,3\n0,89c25,1,2,3\n",
            "cells of partitioning 0 overlap",
        ),
        ("partitioning,cell,lat_deg,lng_deg,num_photos\n1,89c,1,2,3\n", r"expected partitionings 0, 1, ..., got \[1\]"),
    ],
)
def test_mistakes_in_a_cell_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cells.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_cells(tmp_path / "cells.csv")
    assert "cells.csv" in str(error.value)
    with pytest.raises(ValueError, match="there is no file"):
        read_cells(tmp_path / "none.csv")
