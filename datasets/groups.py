"""Splits that do not leak: what belongs together stays on one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from datasets.sphere import Floats, chord, unit_vectors

SPLIT_SEED = 0
GRID_PER_LINK = 4  # the side of a grid box is the link's length / so much


def groups_by_place(lat_deg: Floats, lng_deg: Floats, within_km: float) -> NDArray[np.int64]:
    """A group id for each photo: photos that are `within_km` of each other, or linked by others that are, share one.

    Photos are first gathered in the boxes of a fine grid, so that a million photos of one square are one point; a link
    may therefore be longer by two half diagonals of a box (0.43 within_km), never shorter.
    """
    reach = chord(within_km)
    side = reach / GRID_PER_LINK
    places = np.round(unit_vectors(lat_deg, lng_deg) / side).astype(np.int64)
    boxes, box_of = np.unique(places, axis=0, return_inverse=True)
    links = cKDTree(boxes * side).query_pairs(reach + side * 3**0.5, output_type="ndarray")
    graph = coo_array((np.ones(len(links), np.bool_), (links[:, 0], links[:, 1])), shape=(len(boxes), len(boxes)))
    _, group_of_box = connected_components(graph, directed=False)
    return np.asarray(group_of_box[box_of.ravel()], np.int64)


def groups_by_name(names: Sequence[str]) -> NDArray[np.int64]:
    """A group id for each photo: photos of one name share one."""
    _, groups = np.unique(np.asarray(names), return_inverse=True)
    return groups.astype(np.int64)


def validation_rows(groups: NDArray[np.int64], val_share: float) -> NDArray[np.bool_]:
    """Which photos are for validation: whole groups in a random order, always the same, up to a share of all photos.

    Args:
        groups: (N,), of each photo, from 0.
        val_share: of the photos; 1 takes all.

    Raises:
        ValueError: if every group is larger than that share.
    """
    sizes = np.bincount(groups)
    room = max(1, round(val_share * len(groups)))
    chosen = np.zeros(len(sizes), np.bool_)
    for group in np.random.default_rng(SPLIT_SEED).permutation(len(sizes)):
        if sizes[group] <= room:
            chosen[group] = True
            room -= sizes[group]
    if not chosen.any():
        raise ValueError(
            f"the {len(groups)} photos cannot be split: they are in {len(sizes)} groups that belong together, the "
            f"smallest of {sizes.min()}, and data.val_share is {val_share:g}; a larger one helps, "
            "or with places a smaller data.group_km helps"
        )
    return chosen[groups]
