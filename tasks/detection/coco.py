"""Detectors that others trained on COCO: its categories, 80 with names and gaps in their ids, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights

from backbone.names import ConventionsName
from tasks.common.settings import get_setting
from tasks.common.weights import TaskWeights
from tasks.detection.config import DETECTOR, DetectionConfig

_CATEGORIES: list[str] = SSDLite320_MobileNet_V3_Large_Weights.COCO_V1.meta["categories"]  # by category id
NUM_OUTPUTS = len(_CATEGORIES)  # of the published detectors: the background, 80 categories and 10 gaps
CATEGORY_IDS = [index for index, name in enumerate(_CATEGORIES) if name not in ("__background__", "N/A")]


def coco_detector(
    state: Mapping[str, Tensor], conventions: ConventionsName, path: Path, settings: Mapping[str, Any]
) -> TaskWeights:
    """The weights of a detector of the 80 categories.

    Args:
        state: state dict of our network.
        conventions: of the backbone.
        path: the published file.
        settings: by dotted key, where they differ from the defaults.
    """
    defaults = DetectionConfig()  # so that a recipe for another detector leaves nothing of its own in this one
    return TaskWeights(
        state,
        conventions,
        str(path),
        task="detection",
        metadata={"category_ids": list(CATEGORY_IDS), "class_names": [_CATEGORIES[index] for index in CATEGORY_IDS]},
        settings={key: get_setting(defaults, key) for key in DETECTOR} | {**settings},
    )
