"""MixUp and CutMix within a batch, images and labels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from datasets.types import Example, Image, Label


class LabelMixing:
    """MixUp or CutMix, one of them for each batch; each image is mixed with the next one in the batch.

        image = l image_a + (1 - l) image_b  (MixUp), or image_b in a rectangle of area 1 - l  (CutMix)
        probabilities = l onehot(a) + (1 - l) onehot(b),   l ~ Beta(alpha, alpha)

    Images stay uint8; torchvision's MixUp needs floats.

    Source: Zhang et al. 2018 (arXiv:1710.09412), equation 1; Yun et al. 2019 (arXiv:1905.04899), section 3.
    """

    def __init__(self, num_classes: int, *, mixup_alpha: float, cutmix_alpha: float) -> None:
        """Args: num_classes: K; mixup_alpha, cutmix_alpha: of the Beta distribution, 0 disables it."""
        self._num_classes = num_classes
        self._alphas = {_mixup: mixup_alpha, _cutmix: cutmix_alpha}

    def __call__(self, examples: list[Example[Label]], seed: int) -> list[Example[Label]]:
        """The mixed batch, for examples of one size; a function of the seed."""
        rng = np.random.default_rng(seed)
        enabled = [(mix, alpha) for mix, alpha in self._alphas.items() if alpha > 0]
        mix, alpha = enabled[int(rng.integers(len(enabled)))]
        lam = float(rng.beta(alpha, alpha))
        partners = examples[1:] + examples[:1]
        return [self._combine(a, b, *mix(a.image, b.image, lam, rng)) for a, b in zip(examples, partners, strict=True)]

    def _combine(self, a: Example[Label], b: Example[Label], image: Image, lam: float) -> Example[Label]:
        probabilities = np.zeros(self._num_classes, np.float32)
        probabilities[a.truth.class_id] += lam
        probabilities[b.truth.class_id] += 1 - lam
        return replace(a, image=image, truth=Label(int(probabilities.argmax()), probabilities))


def _mixup(a: Image, b: Image, lam: float, _rng: np.random.Generator) -> tuple[Image, float]:
    return cv2.addWeighted(a, lam, b, 1 - lam, 0), lam  # type: ignore[return-value]  # uint8, like the inputs


def _cutmix(a: Image, b: Image, lam: float, rng: np.random.Generator) -> tuple[Image, float]:
    """The rectangle is clipped to the image; the returned lambda is the actual fraction of pixels from `a`."""
    height, width = a.shape[:2]
    side = (1 - lam) ** 0.5
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = (int(np.clip(y + sign * side * height / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(x + sign * side * width / 2, 0, width)) for sign in (-1, 1))
    image = a.copy()
    image[top:bottom, left:right] = b[top:bottom, left:right]
    return image, 1 - (bottom - top) * (right - left) / (height * width)
