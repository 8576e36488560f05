"""Mixtures of the images of one batch, with labels mixed alike."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from datasets.types import Example, Image, Label


class LabelMixing:
    """MixUp or CutMix, each batch by one of them, each image with its neighbour in the batch.

        image = l image_a + (1 - l) image_b  (MixUp), or image_b in a rectangle of area 1 - l  (CutMix)
        probabilities = l onehot(a) + (1 - l) onehot(b),   l ~ Beta(alpha, alpha)

    Images stay uint8, as they travel; torchvision's own MixUp needs floats.

    Source: Zhang et al. 2018 (arXiv:1710.09412), equation 1; Yun et al. 2019 (arXiv:1905.04899), section 3.
    """

    def __init__(self, num_classes: int, *, mixup_alpha: float, cutmix_alpha: float) -> None:
        """Args: num_classes: K; mixup_alpha, cutmix_alpha: of the Beta distribution, 0 to leave that way out."""
        self._num_classes = num_classes
        self._alphas = {_mixup: mixup_alpha, _cutmix: cutmix_alpha}

    def __call__(self, examples: list[Example[Label]], seed: int) -> list[Example[Label]]:
        """As many examples of one size; the same seed mixes in the same way."""
        rng = np.random.default_rng(seed)
        ways = [(way, alpha) for way, alpha in self._alphas.items() if alpha > 0]
        way, alpha = ways[int(rng.integers(len(ways)))]
        share = float(rng.beta(alpha, alpha))
        neighbours = examples[1:] + examples[:1]
        return [self._mix(a, b, *way(a.image, b.image, share, rng)) for a, b in zip(examples, neighbours, strict=True)]

    def _mix(self, a: Example[Label], b: Example[Label], image: Image, share: float) -> Example[Label]:
        probabilities = np.zeros(self._num_classes, np.float32)
        probabilities[a.truth.class_id] += share
        probabilities[b.truth.class_id] += 1 - share
        return replace(a, image=image, truth=Label(int(probabilities.argmax()), probabilities))


def _mixup(a: Image, b: Image, share: float, _rng: np.random.Generator) -> tuple[Image, float]:
    return cv2.addWeighted(a, share, b, 1 - share, 0), share  # type: ignore[return-value]  # 8 bits as they came


def _cutmix(a: Image, b: Image, share: float, rng: np.random.Generator) -> tuple[Image, float]:
    """The rectangle may reach over the edge; the share that is returned is that of the pixels left of `a`."""
    height, width = a.shape[:2]
    side = (1 - share) ** 0.5
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = (int(np.clip(y + sign * side * height / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(x + sign * side * width / 2, 0, width)) for sign in (-1, 1))
    image = a.copy()
    image[top:bottom, left:right] = b[top:bottom, left:right]
    return image, 1 - (bottom - top) * (right - left) / (height * width)
