"""What a detector is to the task; `ssd.py` and `faster_rcnn.py` are the two there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from backbone import Backbone
from datasets.types import Detections
from tasks.detection.postprocess import Limits


@dataclass(frozen=True)
class Detector:
    """One kind of detector.

    Attributes:
        build: (backbone, number of classes without background) -> the network with random weights above the backbone;
            its forward takes images, and `Truth` too where `samples_regions`, and returns a NamedTuple of raw tensors.
        loss: (raw outputs, truth) -> scalars, `total` among them.
        decode: (raw outputs, limits) -> the scored boxes of each image.
        samples_regions: while it learns, the network looks at regions around the true boxes, and must be told them.
    """

    build: Callable[[Backbone, int], nn.Module]
    loss: Callable[[Any, Sequence[Detections]], dict[str, Tensor]]
    decode: Callable[[Any, Limits], list[Detections]]
    samples_regions: bool = False
