"""Cross-entropy over the cells of each partitioning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Example, Place
from tasks.common.model.logits import Logits
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.geolocation.cells import Partitioning

IN_NO_CELL = -1


class CellTargets(NamedTuple):
    """The true cells of N photos.

    Attributes:
        cell_ids: int64 (N, P), the index of the cell in each of P partitionings; -1 if the photo is in none.
    """

    cell_ids: Tensor


def cell_targets(examples: Sequence[Example[Place]], *, partitionings: Sequence[Partitioning]) -> CellTargets:
    """The true cells of a batch."""
    lat_deg, lng_deg = np.array([(example.truth.lat_deg, example.truth.lng_deg) for example in examples]).T
    return CellTargets(torch.from_numpy(np.stack([p.find(lat_deg, lng_deg) for p in partitionings], 1)))


def cell_loss(
    outputs: Logits,
    targets: CellTargets,
    sizes: Sequence[int],
    *,
    label_smoothing: float,
    world: World = SINGLE_PROCESS,
) -> dict[str, Tensor]:
    """Mean over partitionings of the mean cross-entropy of the photos that are in one of their cells.

    Args:
        outputs: logits of N photos.
        targets: their cells; a photo in no cell of a partitioning is ignored there.
        sizes: number of cells of each partitioning.
        label_smoothing: fraction of the true cell's probability that is spread over all cells.
        world: the processes that share the batch.

    Returns:
        Scalars: `total`, and with several partitionings one for each, `cells_0` for the coarsest.

    Source: Weyand et al. 2016 (arXiv:1602.05314), section 3.
    """
    losses = []
    for logits, cell_ids in zip(torch.split(outputs.logits, list(sizes), 1), targets.cell_ids.unbind(1), strict=True):
        total = functional.cross_entropy(
            logits, cell_ids, ignore_index=IN_NO_CELL, label_smoothing=label_smoothing, reduction="sum"
        )
        losses.append(total / world.normalizer((cell_ids != IN_NO_CELL).sum()))
    parts = {f"cells_{index}": loss for index, loss in enumerate(losses)} if len(losses) > 1 else {}
    return {"total": torch.stack(losses).mean(), **parts}
