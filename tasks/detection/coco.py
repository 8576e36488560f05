"""COCO's categories, for detectors that others trained on it: 80 with names, and gaps in their ids."""

from __future__ import annotations

from typing import Any

from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights

_CATEGORIES: list[str] = SSDLite320_MobileNet_V3_Large_Weights.COCO_V1.meta["categories"]  # by category id
NUM_OUTPUTS = len(_CATEGORIES)  # of the published detectors: the background, 80 categories and 10 gaps
CATEGORY_IDS = [index for index, name in enumerate(_CATEGORIES) if name not in ("__background__", "N/A")]


def coco_metadata() -> dict[str, Any]:
    """The metadata of a detector of the 80 categories."""
    return {"category_ids": list(CATEGORY_IDS), "class_names": [_CATEGORIES[index] for index in CATEGORY_IDS]}
