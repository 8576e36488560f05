"""The interface of a detector, implemented by `ssd.py` and `faster_rcnn.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from backbone.base import Backbone
from datasets.types import Detections
from tasks.common.runtime.distributed import World
from tasks.detection.matching import DetectionTargets
from tasks.detection.postprocess import PostprocessConfig


@dataclass(frozen=True)
class Detector:
    """One kind of detector.

    Attributes:
        build: (backbone, number of classes without background) -> the network, randomly initialised above the backbone.
        loss: (raw outputs, targets, world) -> scalars, including `total`.
        decode: (raw outputs, config) -> the scored boxes of each image.
    """

    build: Callable[[Backbone, int], nn.Module]
    loss: Callable[[Any, DetectionTargets, World], dict[str, Tensor]]
    decode: Callable[[Any, PostprocessConfig], list[Detections]]
