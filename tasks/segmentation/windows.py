"""Large inputs in overlapping windows, so that a network sees objects at the scale that it was trained at."""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.segmentation.model import AuxiliaryOutputs, SegmentationModel, SegmentationOutputs


class WindowedModel(SegmentationModel):
    """A network that predicts inputs larger than its window in windows that overlap by half, or more.

    Where windows overlap, their logits are averaged. In training it sees its input as a whole.
    """

    def __init__(self, model: SegmentationModel, window: int) -> None:
        """Args: model: its parts become those of this network; window: side in pixels, a multiple of 64."""
        super().__init__(model.backbone, model.decode_head, model.auxiliary_head)
        self._window = window

    def forward(self, images: Tensor) -> SegmentationOutputs | AuxiliaryOutputs:
        """The same as for `SegmentationModel`; both sides of larger images are multiples of 32."""
        height, width = images.shape[2:]
        if self.training or max(height, width) <= self._window:
            return super().forward(images)
        places = [(top, left) for top in self._starts(height) for left in self._starts(width)]
        window = self._window
        parts = torch.cat([images[:, :, top : top + window, left : left + window] for top, left in places])
        logits = super().forward(parts).logits
        stride = parts.shape[-1] // logits.shape[-1]
        total = logits.new_zeros(len(images), logits.shape[1], height // stride, width // stride)
        count = logits.new_zeros(1, 1, height // stride, width // stride)
        for part, (top, left) in zip(logits.chunk(len(places)), places, strict=True):
            rows, columns = (slice(start // stride, (start + window) // stride) for start in (top, left))
            total[:, :, rows, columns] += part
            count[:, :, rows, columns] += 1
        return SegmentationOutputs(total / count)

    def _starts(self, side: int) -> list[int]:
        """Where windows start along a side: at each half of a window, and the last so that it ends with the side."""
        last = max(side - self._window, 0)
        return [*range(0, last, self._window // 2), last]
