"""How nearly two networks predict the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12  # keeps the logarithm of a probability of 0 finite


class Agreement(NamedTuple):
    """Of a network's predictions with those of a reference, over the same images.

    Attributes:
        similarity: of the predictions, 1 where all are the same: the fraction of those that are, or of embeddings the
            mean cosine.
        kl: mean Kullback-Leibler divergence of the predicted from the reference probabilities, in nats; None where a
            task has no probabilities.
    """

    similarity: float
    kl: float | None


def divergence(reference: NDArray[np.float32], predicted: NDArray[np.float32]) -> float:
    """The mean over rows of sum_k p_k ln(p_k / q_k), for probabilities p (reference) and q, (N, K)."""
    p, q = (np.asarray(values, np.float64).clip(_TINY) for values in (reference, predicted))
    return float((p * np.log(p / q)).sum(-1).mean())
