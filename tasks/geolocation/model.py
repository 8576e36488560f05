"""PlaNet: a backbone with a softmax over the cells of each partitioning, and what its raw outputs mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from datasets.types import Place
from tasks.common.model.logits import Logits, LogitsModel
from tasks.geolocation.cells import Partitioning, inside
from tasks.geolocation.density import densest_place


class PlaNet(LogitsModel):
    """Pooled features to logits of all partitionings' cells."""


def decode_cells(
    outputs: Logits, partitionings: Sequence[Partitioning], *, combine: bool, bandwidth_km: float | None
) -> list[Place]:
    """The place of each photo, and the probability of each cell of the finest partitioning.

        p(cell) = softmax of its partitioning, or with `combine` the product of it and of the same for the coarser cells
        around it, scaled to sum 1

    Args:
        outputs: of N photos.
        partitionings: coarse to fine.
        combine: use all partitionings, else the finest alone.
        bandwidth_km: see `densest_place`; None for the mean place of the most probable cell.

    Source: Weyand et al. 2016 (arXiv:1602.05314), section 3; Mueller-Budack et al. 2018 (ECCV) for the product.
    """
    by_partitioning = torch.split(outputs.logits, [len(partitioning) for partitioning in partitionings], 1)
    finest = partitionings[-1]
    log_p = by_partitioning[-1].log_softmax(1)
    if combine:
        for coarse, logits in zip(partitionings[:-1], by_partitioning[:-1], strict=True):
            around = torch.from_numpy(inside(finest, coarse)).to(logits.device)
            # A fine cell that is in no coarse one is as probable there as the least probable of all.
            coarse_log_p = logits.log_softmax(1)
            log_p = log_p + torch.where(around >= 0, coarse_log_p[:, around], coarse_log_p.amin(1, keepdim=True))
    probabilities = log_p.softmax(1).cpu().numpy().astype(np.float32)
    places = []
    for row in probabilities:
        lat_deg, lng_deg = densest_place(finest.lat_deg, finest.lng_deg, row, bandwidth_km)
        places.append(Place(lat_deg, lng_deg, int(row.argmax()), row))
    return places
