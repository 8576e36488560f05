"""Pixelwise cross-entropy with void pixels, class weights and an auxiliary loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datasets.types import VOID
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.segmentation.layers import resize_map
from tasks.segmentation.model import AuxiliaryOutputs, SegmentationOutputs

MIN_FREQUENCY = 1e-3  # keeps the weight of a rare class finite


class SegmentationTargets(NamedTuple):
    """Targets of N images.

    Attributes:
        class_ids: uint8 (N, H, W); 255 is void.
    """

    class_ids: Tensor


def segmentation_targets(masks: Sequence[NDArray[np.uint8]]) -> SegmentationTargets:
    """The targets of a batch, from class ids (H, W) of one size."""
    return SegmentationTargets(torch.from_numpy(np.stack(masks)))


def segmentation_loss(
    outputs: SegmentationOutputs | AuxiliaryOutputs,
    targets: SegmentationTargets,
    world: World = SINGLE_PROCESS,
    *,
    class_weights: Tensor | None = None,
    auxiliary_weight: float = 0.4,
) -> dict[str, Tensor]:
    """The weighted mean cross-entropy over the pixels that are not void, at the size of the masks.

        total = pixels + a * auxiliary,   each = - sum w_y log softmax(logits)_y / sum w_y

    Args:
        outputs: of N images; the logits are resized.
        targets: class ids y.
        world: the processes that share the batch.
        class_weights: w (K,), on the same device; None for equal ones.
        auxiliary_weight: a.

    Returns:
        Scalars `total`, and with an auxiliary head `pixels` and `auxiliary`.

    Source: Chen et al. 2017 (arXiv:1706.05587), section 4.1 (logits are resized, not masks); Zhao et al. 2017
    (arXiv:1612.01105), section 3.3 (a = 0.4).
    """
    class_ids = targets.class_ids.long()
    is_counted = class_ids != VOID
    if class_weights is None:
        normalizer = world.normalizer(is_counted.sum())
    else:
        weights = class_weights[class_ids.masked_fill(~is_counted, 0)]  # no indexing by a mask: it makes the CPU wait
        normalizer = world.normalizer(weights.masked_fill(~is_counted, 0).sum())

    def cross_entropy(logits: Tensor) -> Tensor:
        resized = resize_map(logits.float(), class_ids.shape[1:])
        total = functional.cross_entropy(resized, class_ids, class_weights, ignore_index=VOID, reduction="sum")
        return total / normalizer

    pixels = cross_entropy(outputs.logits)
    if not isinstance(outputs, AuxiliaryOutputs):
        return {"total": pixels}
    auxiliary = cross_entropy(outputs.auxiliary)
    return {"total": pixels + auxiliary_weight * auxiliary, "pixels": pixels, "auxiliary": auxiliary}


def class_weights(num_pixels: Sequence[int], exponent: float) -> Tensor:
    """The loss weights of the classes: p^-exponent, scaled so that the mean over the pixels is 1.

    Args:
        num_pixels: of each class in the training masks, without void ones; their fractions are p.
        exponent: in [0, 1]; 0 for equal weights, 1 for the same influence of each class.
    """
    counts = np.asarray(num_pixels, np.float64)
    p = counts / counts.sum()
    weights = np.maximum(p, MIN_FREQUENCY) ** -exponent
    return torch.from_numpy((weights / (p * weights).sum()).astype(np.float32))
