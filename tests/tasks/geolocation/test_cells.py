"""Partitionings: laws for any photos, checked with the ancestors of s2cell."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import s2cell

from datasets.geolocation.sphere import distance_km, to_lat_lng
from tasks.geolocation.cells import Partitioning, coarse_cell_ids, divide, read_cells, write_cells


def clustered(rng: np.random.Generator, num_photos: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates around a few centres, some at a pole or across the antimeridian, and some identical."""
    centres = np.r_[rng.normal(size=(8, 3)), [[0, 0, 1], [-1, 0, 0.3]]]
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    spread = 10.0 ** rng.uniform(-4, -0.5, len(centres))
    centre_of = rng.integers(len(centres), size=num_photos)
    noise = rng.normal(size=(num_photos, 3)) * spread[centre_of, None]
    lat_deg, lng_deg = to_lat_lng(centres[centre_of] + noise)
    lat_deg[:40], lng_deg[:40] = lat_deg[0], lng_deg[0]
    return lat_deg, lng_deg


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("max_photos", "min_photos"), [(50, 5), (300, 1), (20, 20), (1, 1)])
def test_every_photo_is_in_exactly_one_kept_cell_or_dropped(seed: int, max_photos: int, min_photos: int) -> None:
    lat_deg, lng_deg = clustered(np.random.default_rng(seed), 1500)
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[max_photos], min_photos=min_photos)
    index_of = {cell: index for index, cell in enumerate(partitioning.cells.tolist())}
    found = partitioning.find(lat_deg, lng_deg)
    coordinates = list(zip(lat_deg.tolist(), lng_deg.tolist(), strict=True))
    ancestors_of = [[s2cell.lat_lon_to_cell_id(lat, lng, level) for level in range(31)] for lat, lng in coordinates]
    num_in = Counter(cell for ancestors in ancestors_of for cell in ancestors)
    for ancestors, cell_id in zip(ancestors_of, found.tolist(), strict=True):
        kept = [index_of[cell] for cell in ancestors if cell in index_of]
        assert kept == ([cell_id] if cell_id >= 0 else [])
        if cell_id < 0:  # dropped: its first ancestor that needs no split has too few photos
            assert num_in[next(cell for cell in ancestors if num_in[cell] <= max_photos)] < min_photos
    for cell, num_photos in zip(partitioning.cells.tolist(), partitioning.num_photos.tolist(), strict=True):
        level = s2cell.cell_id_to_level(cell)
        assert num_in[cell] == num_photos >= min_photos
        assert num_photos <= max_photos or level == 30
        if level:
            assert num_in[s2cell.cell_id_to_parent_cell_id(cell, level - 1)] > max_photos  # needed a split


def test_centroids_across_the_antimeridian_and_at_the_pole() -> None:
    """Against values by hand."""
    lat_deg = np.array([10.0, 10.0, 89.0, 89.0, 89.0, 89.0])
    lng_deg = np.array([179.0, -179.0, 0.0, 90.0, 180.0, -90.0])
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[4], min_photos=1)
    at_line, at_pole = partitioning.find(np.array([10.0, 89.5]), np.array([180.0, 12.0])).tolist()
    assert partitioning.num_photos[[at_line, at_pole]].tolist() == [2, 4]
    assert distance_km(partitioning.lat_deg[at_pole], partitioning.lng_deg[at_pole], 90, 0) < 1e-6
    middle = distance_km(partitioning.lat_deg[at_line], partitioning.lng_deg[at_line], 10, 180)
    assert middle < 2  # the arc between them bends a little north of the parallel


def test_centroids_do_not_depend_on_the_chunk_size(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    lat_deg, lng_deg = clustered(rng, 1500)
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[30], min_photos=4)
    found = partitioning.find(lat_deg, lng_deg)
    for cell_id in range(0, len(partitioning), 7):
        phi, lam = np.radians(lat_deg[found == cell_id]), np.radians(lng_deg[found == cell_id])
        x, y, z = (np.cos(phi) * np.cos(lam)).sum(), (np.cos(phi) * np.sin(lam)).sum(), np.sin(phi).sum()
        expected = np.degrees([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)])
        ours = (partitioning.lat_deg[cell_id], partitioning.lng_deg[cell_id])
        assert distance_km(*ours, *expected) < 1e-4
    monkeypatch.setattr("tasks.geolocation.cells.CHUNK_CELLS", 3)
    (again,) = divide(lat_deg, lng_deg, max_photos=[30], min_photos=4)
    np.testing.assert_allclose(again.lat_deg, partitioning.lat_deg, atol=1e-9)


def test_fine_cells_are_inside_coarse_ones(rng: np.random.Generator) -> None:
    lat_deg, lng_deg = clustered(rng, 1500)
    coarse, fine = divide(lat_deg, lng_deg, max_photos=[200, 20], min_photos=5)
    coarse_ids = coarse_cell_ids(fine, coarse)
    assert (coarse_ids >= 0).all()
    found = fine.find(lat_deg, lng_deg)
    np.testing.assert_array_equal(coarse_ids[found[found >= 0]], coarse.find(lat_deg, lng_deg)[found >= 0])


def test_too_few_photos_for_any_cell() -> None:
    with pytest.raises(ValueError, match=r"cells.min_photos: no cell has 50 of the 3 training photos"):
        divide(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]), max_photos=[100], min_photos=50)


def are_equal(a: Partitioning, b: Partitioning) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_file_and_json_round_trips(rng: np.random.Generator, tmp_path: Path) -> None:
    partitionings = divide(*clustered(rng, 1500), max_photos=[200, 20], min_photos=5)
    write_cells(tmp_path / "cells.csv", partitionings)
    again = read_cells(tmp_path / "cells.csv")
    assert all(are_equal(a, b) for a, b in zip(partitionings, again, strict=True))
    assert all(are_equal(p, Partitioning.from_json(p.to_json())) for p in partitionings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "not a cell file: expected the columns partitioning, cell"),
        ("partitioning,cell,lat_deg,lng_deg,num_photos\n0,zz,1,2,3\n", "line 2: 'zz' is not an S2 cell"),
        ("partitioning,cell,lat_deg,lng_deg,num_photos\n0,89c25,1\n", "line 2: "),
        (
            "partitioning,cell,lat_deg,lng_deg,num_photos\n0,89c,1,2,3\n0,89c25,1,2,3\n",
            "cells of partitioning 0 overlap",
        ),
        ("partitioning,cell,lat_deg,lng_deg,num_photos\n1,89c,1,2,3\n", r"expected partitionings 0, 1, ..., got \[1\]"),
    ],
)
def test_errors_in_a_cell_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cells.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_cells(tmp_path / "cells.csv")
    assert "cells.csv" in str(error.value)
    with pytest.raises(ValueError, match="there is no file"):
        read_cells(tmp_path / "none.csv")
