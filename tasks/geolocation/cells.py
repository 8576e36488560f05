"""PlaNet's adaptive partitioning: S2 cells that are small where many photos were taken.

Several partitionings, coarse to fine, are made from the same photos with different limits, so a fine cell is always
inside one cell of each coarser partitioning.

Source: Weyand et al. 2016 (arXiv:1602.05314), section 3; several partitionings: Mueller-Budack et al. 2018 (ECCV).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import s2cell
from numpy.typing import NDArray

from datasets.files import atomic_write
from datasets.geolocation.sphere import Floats, to_lat_lng, to_unit_vectors
from tasks.geolocation import s2

CHUNK_CELLS = 1024
COLUMNS = ("partitioning", "cell", "lat_deg", "lng_deg", "num_photos")


@dataclass(frozen=True, eq=False)
class Partitioning:
    """Cells that do not overlap, in ascending order of S2 ids; a cell's index is its class.

    Attributes:
        cells: (C,) S2 ids, ascending.
        lat_deg: (C,), latitude of the centroid of the cell's training photos.
        lng_deg: (C,), longitude of it.
        num_photos: (C,) training photos.
    """

    cells: s2.Ids
    lat_deg: Floats
    lng_deg: Floats
    num_photos: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cells)

    def find(self, lat_deg: Floats, lng_deg: Floats) -> NDArray[np.int64]:
        """The index of the cell that contains each point; -1 if none does."""
        return self.find_leaves(s2.leaf_cells(lat_deg, lng_deg))

    def find_leaves(self, leaves: s2.Ids) -> NDArray[np.int64]:
        """The index of the cell that contains each leaf cell; -1 if none does."""
        cell_ids = np.searchsorted(s2.first_leaf(self.cells), leaves, side="right") - 1
        is_inside = (cell_ids >= 0) & (leaves <= s2.last_leaf(self.cells)[cell_ids])
        return np.where(is_inside, cell_ids, -1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, a list for each column; cells as S2 tokens."""
        return {
            "cell": [s2cell.cell_id_to_token(cell) for cell in self.cells.tolist()],
            "lat_deg": self.lat_deg.tolist(),
            "lng_deg": self.lng_deg.tolist(),
            "num_photos": self.num_photos.tolist(),
        }

    @classmethod
    def from_json(cls, columns: Mapping[str, Any]) -> Partitioning:
        """The inverse of `to_json`. Raises: any error, if it is not one of its results."""
        if not all(map(s2cell.token_is_valid, columns["cell"])):
            raise ValueError("a cell is none of S2's")
        cells = np.array([s2cell.token_to_cell_id(token) for token in columns["cell"]], np.uint64)
        lat_deg, lng_deg = np.array(columns["lat_deg"], float), np.array(columns["lng_deg"], float)
        num_photos = np.array(columns["num_photos"], np.int64)
        if {column.shape for column in (lat_deg, lng_deg, num_photos)} != {cells.shape}:
            raise ValueError("there are not as many coordinates and numbers of photos as cells")
        return cls(cells, lat_deg, lng_deg, num_photos)


def divide(lat_deg: Floats, lng_deg: Floats, *, max_photos: Sequence[int], min_photos: int) -> list[Partitioning]:
    """One partitioning for each limit: cells with more photos are split into four, cells with too few are dropped.

    Starts from the six faces of S2's cube. Leaf cells are never split.

    Args:
        lat_deg: (N,) of the training photos.
        lng_deg: (N,).
        max_photos: maximum number of photos in a cell, for each partitioning; descending.
        min_photos: minimum number.

    Raises:
        ValueError: if no cell has `min_photos` photos.
    """
    leaves = s2.leaf_cells(lat_deg, lng_deg)
    order = np.argsort(leaves)
    leaves = leaves[order]
    partitionings = [_divide(leaves, limit, min_photos) for limit in max_photos]
    return [_with_centroids(cells, starts, ends, lat_deg, lng_deg, order) for cells, starts, ends in partitionings]


def _divide(leaves: s2.Ids, max_photos: int, min_photos: int) -> tuple[s2.Ids, NDArray[np.int64], NDArray[np.int64]]:
    """Cells, and for each the range of the sorted leaves inside it, from `starts` to `ends`."""
    cells, kept = s2.face_cells(), []
    while len(cells):
        starts = np.searchsorted(leaves, s2.first_leaf(cells), side="left")
        ends = np.searchsorted(leaves, s2.last_leaf(cells), side="right")
        num_photos = ends - starts
        needs_split = (num_photos > max_photos) & (s2.lowest_bit(cells) > 1)
        keep = ~needs_split & (num_photos >= min_photos)
        kept.append((cells[keep], starts[keep], ends[keep]))
        cells = s2.children(cells[needs_split])
    found, starts, ends = (np.concatenate(column) for column in zip(*kept, strict=True))
    if not len(found):
        raise ValueError(
            f"cells.min_photos: no cell has {min_photos} of the {len(leaves)} training photos; a smaller value helps"
        )
    order = np.argsort(found)
    return found[order], starts[order], ends[order]


def _with_centroids(
    cells: s2.Ids,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    lat_deg: Floats,
    lng_deg: Floats,
    order: NDArray[np.int64],
) -> Partitioning:
    """Add the spherical centroid of each cell's photos (the direction of the sum of their unit vectors).

    In chunks: the vectors of ten million photos would take a quarter of a gigabyte.
    """
    sums = np.empty((len(cells), 3))
    for first in range(0, len(cells), CHUNK_CELLS):
        part = slice(first, first + CHUNK_CELLS)
        offset, end = starts[first], ends[part][-1]
        rows = order[offset:end]
        vectors = to_unit_vectors(lat_deg[rows], lng_deg[rows])
        bounds = np.stack([starts[part], ends[part]], 1).ravel() - offset  # dropped photos may lie in between
        sums[part] = np.add.reduceat(np.r_[vectors, np.zeros((1, 3))], bounds)[::2]
    return Partitioning(cells, *to_lat_lng(sums), ends - starts)


def write_cells(path: Path, partitionings: Sequence[Partitioning]) -> None:
    """Write a line for each cell: partitioning from 0 (the coarsest), S2 token, centroid, training photos."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for index, partitioning in enumerate(partitionings):
            rows = zip(*partitioning.to_json().values(), strict=True)
            writer.writerows([index, *row] for row in rows)


def read_cells(path: Path) -> list[Partitioning]:
    """The inverse of `write_cells`.

    Raises:
        ValueError: naming file and line: wrong columns, invalid tokens, overlapping cells.
    """
    if not path.is_file():
        raise ValueError(f"cells.file: there is no file {path}")
    try:
        rows_of = _read_rows(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a cell file ({error})") from error
    if sorted(rows_of) != list(range(len(rows_of))) or not rows_of:
        raise ValueError(f"{path}: expected partitionings 0, 1, ..., got {sorted(rows_of)}")
    partitionings = []
    for partition in range(len(rows_of)):
        ids, lat, lng, counts = zip(*sorted(rows_of[partition]), strict=True)
        cells = np.array(ids, np.uint64)
        if (s2.last_leaf(cells)[:-1] >= s2.first_leaf(cells)[1:]).any():
            raise ValueError(f"{path}: cells of partitioning {partition} overlap")
        partitionings.append(Partitioning(cells, np.array(lat), np.array(lng), np.array(counts, np.int64)))
    return partitionings


def _read_rows(path: Path) -> dict[int, list[tuple[int, float, float, int]]]:
    """Id, latitude, longitude and number of photos of each cell, by partitioning."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(f"{path}: not a cell file: expected the columns {', '.join(COLUMNS)}, got {header}")
        rows_of: dict[int, list[tuple[int, float, float, int]]] = {}
        for row in reader:
            try:
                index, token, lat_deg, lng_deg, num_photos = row
                if not s2cell.token_is_valid(token):
                    raise ValueError(f"{token!r} is not an S2 cell")
                cell = (s2cell.token_to_cell_id(token), float(lat_deg), float(lng_deg), np.int64(num_photos).item())
                rows_of.setdefault(int(index), []).append(cell)
            except (ValueError, OverflowError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return rows_of


def coarse_cell_ids(fine: Partitioning, coarse: Partitioning) -> NDArray[np.int64]:
    """The index of the coarse cell that contains each fine one; -1 if none does."""
    return coarse.find_leaves(s2.first_leaf(fine.cells))
