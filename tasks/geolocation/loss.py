"""Cross-entropy over the cells of each partitioning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Place
from tasks.common.logits import Logits
from tasks.geolocation.cells import Partitioning

IN_NO_CELL = -1


def cell_loss(
    outputs: Logits, truth: Sequence[Place], partitionings: Sequence[Partitioning], *, label_smoothing: float
) -> dict[str, Tensor]:
    """The mean over partitionings of the mean cross-entropy of the photos that are in one of its cells.

    Args:
        outputs: of N photos.
        truth: N places; one in no cell of a partitioning is left out there.
        partitionings: coarse to fine.
        label_smoothing: share of the true cell's probability that is spread over all cells.

    Returns:
        Scalars: `total`, and with several partitionings each one's, `cells_0` the coarsest's.

    Source: Weyand et al. 2016 (arXiv:1602.05314), section 3.
    """
    lat_deg, lng_deg = np.array([(place.lat_deg, place.lng_deg) for place in truth]).T
    losses = []
    for logits, partitioning in zip(
        torch.split(outputs.logits, [len(p) for p in partitionings], 1), partitionings, strict=True
    ):
        cell_ids = torch.from_numpy(partitioning.find(lat_deg, lng_deg)).to(logits.device)
        total = functional.cross_entropy(
            logits, cell_ids, ignore_index=IN_NO_CELL, label_smoothing=label_smoothing, reduction="sum"
        )
        losses.append(total / (cell_ids != IN_NO_CELL).sum().clamp(min=1))
    parts = {f"cells_{number}": loss for number, loss in enumerate(losses)} if len(losses) > 1 else {}
    return {"total": torch.stack(losses).mean(), **parts}
