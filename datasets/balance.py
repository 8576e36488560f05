"""Class balance: images of rare classes are shown more often.

One rule for images with one class, with several and with none. An image is shown in proportion to its weight

    w = max over its classes of (1 / f)^balance;   1 for an image without classes

where f is the fraction of the images that have the class. For one class an image, a class of n images is then sampled
in proportion to n^(1 - balance): 0 as it is, 0.5 square-root sampling, 1 all classes equally. For several classes an
image and balance 0.5 these are the repeat factors of LVIS for a threshold of 1.

Source: Mahajan et al. 2018 (arXiv:1805.00932), section 2.2; Gupta et al. 2019 (arXiv:1908.03195), section 4.1.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Classes = Sequence[Hashable]  # of an image


class ClassBalance:
    """Epochs of as many images as the data have, each as often as its weight says: a `datasets.loader.Order`.

    In an epoch an image occurs floor(e) or ceil(e) times, on average e = w * N / sum of w. With equal weights that is
    once, in the same order as without balance.
    """

    def __init__(self, weights: NDArray[np.float64]) -> None:
        """Args: weights: (N,), from `image_weights`."""
        expected = weights * (len(weights) / weights.sum())
        self._whole = np.floor(expected).astype(np.int64)
        self._fraction = expected - self._whole

    def __call__(self, rng: np.random.Generator, batch_size: int) -> NDArray[np.int64]:
        """The rows of an epoch."""
        counts = self._whole.copy()
        num_left = len(counts) - int(counts.sum())
        if num_left:
            # Systematic sampling (Madow 1949) in random order: each row with the probability of its fraction.
            order = rng.permutation(len(counts))
            ends = self._fraction[order].cumsum()
            points = (rng.random() + np.arange(num_left)) * (ends[-1] / num_left)
            counts[order[np.searchsorted(ends, points, side="right")]] += 1
        return rng.permutation(np.repeat(np.arange(len(counts)), counts))


def image_weights(classes: Sequence[Classes], balance: float) -> NDArray[np.float64]:
    """The weight of each image, (N,).

    Args:
        classes: of each image.
        balance: in [0, 1].
    """
    counts: dict[Hashable, int] = {}
    distinct = [set(of_image) for of_image in classes]
    for of_image in distinct:
        for name in of_image:
            counts[name] = counts.get(name, 0) + 1
    rarest = [min((counts[name] for name in of_image), default=len(classes)) for of_image in distinct]
    weights: NDArray[np.float64] = (len(classes) / np.array(rarest, float)) ** balance
    return weights
