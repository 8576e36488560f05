"""PlaNet: a backbone with a softmax over the cells of each partitioning, and the decoding of its logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from datasets.types import Place
from tasks.common.model.logits import Logits, LogitsModel
from tasks.geolocation.cells import Partitioning, coarse_cell_ids
from tasks.geolocation.places import places_of_cells


class PlaNet(LogitsModel):
    """Images -> logits of the cells of all partitionings."""


def decode_cells(
    outputs: Logits, partitionings: Sequence[Partitioning], *, combine: bool, bandwidth_km: float | None
) -> list[Place]:
    """The location of each photo, and the probability of each cell of the finest partitioning.

        p(cell) = softmax of its partitioning; with `combine` times those of the coarser cells that contain it,
        normalised to sum 1

    Args:
        outputs: logits of N photos.
        partitionings: coarse to fine.
        combine: use all partitionings, else only the finest.
        bandwidth_km: see `weighted_mode`; None for the centroid of the most probable cell.

    Source: Weyand et al. 2016 (arXiv:1602.05314), section 3; Mueller-Budack et al. 2018 (ECCV) for the product.
    """
    by_partitioning = torch.split(outputs.logits, [len(partitioning) for partitioning in partitionings], 1)
    finest = partitionings[-1]
    log_p = by_partitioning[-1].log_softmax(1)
    if combine:
        for coarse, logits in zip(partitionings[:-1], by_partitioning[:-1], strict=True):
            coarse_ids = torch.from_numpy(coarse_cell_ids(finest, coarse)).to(logits.device)
            # A fine cell that is in no coarse cell gets the smallest coarse probability.
            coarse_log_p = logits.log_softmax(1)
            log_p = log_p + torch.where(
                coarse_ids >= 0, coarse_log_p[:, coarse_ids], coarse_log_p.amin(1, keepdim=True)
            )
    probabilities = log_p.softmax(1).cpu().numpy().astype(np.float32)
    return list(places_of_cells(probabilities, finest, bandwidth_km=bandwidth_km))
