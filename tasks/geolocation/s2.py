"""Vectorised S2 cell ids; for a few cells, use the package s2cell.

A cell id has 64 bits: three for the face of a cube around the Earth, two for each of thirty levels along a Hilbert
curve on it, and a 1 after the last level. So the cells inside a cell are a contiguous range of ids.

Source: the S2 geometry library, s2geometry.io ("S2 Cells"); its quadratic projection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.geolocation.sphere import Floats, to_unit_vectors

Ids = NDArray[np.uint64]
MAX_LEVEL = 30
CHUNK = 1 << 16  # points at a time, so that intermediate results stay in the CPU cache
_STEP = 5  # levels per table lookup

# Orientation of a cell: bit 0: axes swapped, bit 1: inverted.
# (orientation, 2 i + j) of a child -> its position on the curve; position -> XOR of its orientation with the parent's.
_POSITION = np.array([[0, 1, 3, 2], [0, 3, 1, 2], [2, 3, 1, 0], [2, 1, 3, 0]])
_TURN = np.array([1, 0, 0, 3])


def leaf_cells(lat_deg: Floats, lng_deg: Floats) -> Ids:
    """The id of the leaf cell (level 30, about a centimetre) that contains each point."""
    cells = np.empty(len(lat_deg), np.uint64)
    for start in range(0, len(cells), CHUNK):
        part = slice(start, start + CHUNK)
        cells[part] = _leaf_cells(to_unit_vectors(lat_deg[part], lng_deg[part]))
    return cells


def lowest_bit(cells: Ids) -> Ids:
    """The bit after a cell's last level: 4^(30 - level)."""
    bits: Ids = cells & (~cells + np.uint64(1))
    return bits


def first_leaf(cells: Ids) -> Ids:
    """The smallest leaf id inside each cell."""
    first: Ids = cells - (lowest_bit(cells) - np.uint64(1))
    return first


def last_leaf(cells: Ids) -> Ids:
    """The largest leaf id inside each cell."""
    last: Ids = cells + (lowest_bit(cells) - np.uint64(1))
    return last


def parents(cells: Ids, level: int) -> Ids:
    """The ancestors at a level of cells at that level or a finer one."""
    bit = np.uint64(1 << (2 * (MAX_LEVEL - level)))
    ancestors: Ids = (cells & ~(bit - np.uint64(1)) & ~bit) | bit
    return ancestors


def children(cells: Ids) -> Ids:
    """The four children of each cell, (4 N,)."""
    quarter = lowest_bit(cells) >> np.uint64(2)
    steps = np.array([-3, -1, 1, 3], np.int64)
    ids: Ids = (cells[:, None].view(np.int64) + steps * quarter[:, None].view(np.int64)).view(np.uint64).ravel()
    return ids


def face_cells() -> Ids:
    """The six cells of level 0."""
    return (np.arange(6, dtype=np.uint64) << np.uint64(61)) | np.uint64(1 << 60)


def _leaf_cells(xyz: Floats) -> Ids:
    axis = np.abs(xyz).argmax(1)
    largest = xyz[np.arange(len(xyz)), axis]
    face = axis + 3 * (largest < 0)
    x, y, z = xyz.T
    u = np.choose(face, [y, -x, -x, z, z, -y]) / largest
    v = np.choose(face, [z, z, -y, y, -x, -x]) / largest
    i, j = _grid(u), _grid(v)
    orientation = face & 1
    curve = np.zeros(len(xyz), np.int64)
    mask = (1 << _STEP) - 1
    for shift in range(MAX_LEVEL - _STEP, -1, -_STEP):
        entry = _LOOKUP[orientation, (i >> shift) & mask, (j >> shift) & mask]
        curve = (curve << (2 * _STEP)) | (entry >> 2)
        orientation = entry & 3
    cells: Ids = (face.astype(np.uint64) << np.uint64(61)) | (curve.astype(np.uint64) << np.uint64(1)) | np.uint64(1)
    return cells


def _grid(u: Floats) -> NDArray[np.int64]:
    """A face coordinate in [-1, 1] quantised to 2^30 steps: s = √(1 + 3u) / 2, or 1 - √(1 - 3u) / 2 where u < 0."""
    root = 0.5 * np.sqrt(1 + 3 * np.abs(u))
    s = np.where(u >= 0, root, 1 - root)
    steps: NDArray[np.int64] = np.clip(np.floor(s * (1 << MAX_LEVEL)), 0, (1 << MAX_LEVEL) - 1).astype(np.int64)
    return steps


def _lookup() -> NDArray[np.int64]:
    """Table of five levels: (orientation, i, j) -> position on the curve << 2 | final orientation."""
    side = np.arange(1 << _STEP)
    orientation = np.broadcast_to(np.arange(4)[:, None, None], (4, len(side), len(side))).copy()
    position = np.zeros_like(orientation)
    for bit in range(_STEP - 1, -1, -1):
        quadrant = 2 * ((side >> bit) & 1)[None, :, None] + ((side >> bit) & 1)[None, None, :]
        digit = _POSITION[orientation, quadrant]
        position = (position << 2) | digit
        orientation = orientation ^ _TURN[digit]
    table: NDArray[np.int64] = (position << 2) | orientation
    return table


_LOOKUP = _lookup()
